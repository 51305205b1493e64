"""The digits data set, written once for all tests of a session."""

import functools

from input_pipelines.imagenet import tiny as digits
from tests import session


@functools.cache
def data_dir() -> str:
  """A data directory that holds digits."""
  return session.once('digits', digits.build)
