"""The digits data set, written once for all tests of a session."""

from tests import tiny_data


def data_dir() -> str:
  """A data directory that holds digits."""
  return tiny_data.data_dir('digits')
