"""Opens the weights that runs of a size start from, and refuses others."""

from collections.abc import Callable
from typing import Any

from input_pipelines.reading import arrays, dataset
from suite.benchmark import Size
from suite.run import program, start
from suite.run.task import Task


def weights(size: Size, task: Task, data_dir: str) -> arrays.Arrays | None:
  """The weights that a size declares; None where it declares none.

  Reads their header. Raises ValueError where they are not what the size
  declares or not what the task needs, FileNotFoundError where none are.
  """
  found = None
  if size.start:
    found = arrays.of_data_set(dataset.find(data_dir, size.start.name))
    if size.start.sha256:
      arrays.require(found, size.start.sha256)
  if found is not None or task.given:
    start.check(found, program.abstract_state(task), task.given)
  return found


def require_alike(
  weights: arrays.Arrays | None, agreed: Callable[[int], int]
) -> None:
  """ValueError on a process whose start weights differ from process 0's.

  `agreed` returns the number of process 0, and is called on all processes.
  """
  mine = int(weights.digest[:8], 16) if weights else 0
  if agreed(mine) != mine:
    raise ValueError(
      f'Expected the start weights of process 0 in {weights and weights.path}, '
      'got others.'
    )


def described(size: Size, found: arrays.Arrays | None) -> dict[str, Any]:
  """Name and digest of the weights, for logs and records; {} of none."""
  if found is None:
    return {}
  return {'start_weights': size.start.name, 'start_sha256': found.digest}
