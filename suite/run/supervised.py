"""A task of one model that learns from examples on a disk."""

from typing import Any

from suite.benchmark import DataSet
from suite.run.task import Task


class SupervisedTask(Task):
  """Keeps hyperparameters, data set and model, and initialises the model."""

  def __init__(self, hp: Any, data: DataSet, model: Any):
    """`model` is a `models.parts.functional.Functional`."""
    self._hp, self._data, self._model = hp, data, model

  def init_model(self, key):
    """See Task."""
    return self._model.init(key)
