"""The data sets of tiny sizes, each made once for all tests of a session."""

import functools

from input_pipelines.reading import places
from input_pipelines.writing import recipe
from tests import session


@functools.cache
def directory(name: str) -> str:
  """The directory of a data set; '' for the name '', which is none."""
  return places.find(data_dir(name), name) if name else ''


@functools.cache
def data_dir(name: str) -> str:
  """A data directory that holds the data set."""

  def build(folder):
    recipe.known()[name].build(recipe.Order(folder, downloads=''))

  return session.once(name.replace('/', '-'), build)
