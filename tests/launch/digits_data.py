"""The digits data set, written once for all tests of a session."""

import atexit
import functools
import shutil
import tempfile

from input_pipelines.imagenet import tiny as digits


@functools.cache
def data_dir() -> str:
  """A data directory that holds digits."""
  directory = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  digits.build(directory)
  return directory
