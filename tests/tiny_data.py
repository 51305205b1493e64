"""The data sets of tiny sizes, each made once for all tests of a session."""

import atexit
import functools
import shutil
import tempfile

from input_pipelines.writing import recipe


@functools.cache
def directory(name: str) -> str:
  """The directory of a data set; '' for the name '', which is none."""
  if not name:
    return ''
  return recipe.known()[name].build(recipe.Order(_data_dir(), downloads=''))


@functools.cache
def _data_dir() -> str:
  made = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, made, ignore_errors=True)
  return made
