"""Batches that steps are measured on: drawn ones, or those of a data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Any, Protocol

import jax
import numpy as np

from suite.clock import Clock
from suite.run import drawn, sharding
from suite.run.drawn import Rows
from suite.run.feed import Data, put_ahead
from suite.run.program import Program, host_rows
from suite.run.task import Facts, Spec, Task

DEVICE, HOST, DATA = INPUTS = ('device', 'host', 'data')
_DRAWN = 2  # batches of each shape
_LOOKED_AT = 8  # batches of a data set, for what they hold
_AHEAD = 2  # batches on the devices before they are asked for, as in feeds


@dataclasses.dataclass(frozen=True)
class Stream:
  """Batches without end, on the devices, and what one of them holds."""

  batches: Iterator[Any]
  contents: Mapping[str, float]  # of all hosts, on average


class Source(Protocol):
  """Makes the batches of a measurement."""

  def train(self, number: int, state: Callable[[], Any]) -> Stream:
    """Batches of the train spec of that number; `state()` is the newest."""

  def evaluate(self, number: int) -> Stream:
    """Batches of the eval spec of that number."""

  def close(self) -> None:
    """Ends what reads ahead."""


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Drawn batches, which lie on the devices or are sent there for each step."""

  task: Task
  mesh: jax.sharding.Mesh
  sent: bool = False  # for each step

  def train(self, number: int, state: Callable[[], Any]) -> Stream:
    """See Source."""
    del state
    return self._stream(self.task.train_specs[number], self.task.contents)

  def evaluate(self, number: int) -> Stream:
    """See Source."""
    return self._stream(self.task.eval_specs[number], _samples)

  def close(self) -> None:
    """See Source."""

  def _stream(self, spec: Spec, contents: Callable[[Rows], Any]) -> Stream:
    host, hosts = sharding.host_share(self.mesh)
    rows = [
      drawn.draw(self.task, spec, seed=_DRAWN * host + i, share=hosts)
      for i in range(_DRAWN)
    ]
    mean = _mean([contents(each) for each in rows], hosts)
    if self.sent:
      # On CPUs arrays may be used where they lie; those of pipelines are new.
      copies = (
        {name: array.copy() for name, array in each.items()}
        for each in itertools.cycle(rows)
      )
      return Stream(put_ahead(copies, self._put, _AHEAD), mean)
    return Stream(itertools.cycle([self._put(each) for each in rows]), mean)

  def _put(self, rows: Rows) -> Any:
    return sharding.put_rows(rows, self.mesh)


class Prepared:
  """Batches of a prepared data set, of all shapes as they come."""

  def __init__(
    self, task: Task, facts: Facts, program: Program, directory: str, **how: Any
  ):
    """Opens the data set; `how` are other fields of `suite.run.feed.Data`."""
    clock = Clock()
    clock.start()
    host, hosts = sharding.host_share(program.mesh)
    data = Data(
      clock,
      directory,
      0,
      lambda rows: sharding.put_rows(rows, program.mesh),
      host=host,
      hosts=hosts,
      **how,
    )
    self._task, self._program, self._hosts = task, program, hosts
    self._blocks = task.blocks(facts)
    self._feed = task.open(data, facts)

  def train(self, number: int, state: Callable[[], Any]) -> Stream:
    """See Source."""
    del number

    def batches():
      for block in itertools.cycle(self._blocks):
        yield from self._feed.train_block(block, state(), self._program)

    return self._seen(batches(), self._task.contents)

  def evaluate(self, number: int) -> Stream:
    """See Source."""
    del number

    def batches():
      while True:
        yield from self._feed.eval_batches()

    return self._seen(batches(), _samples)

  def close(self) -> None:
    """See Source."""
    self._feed.close()

  def _seen(
    self, batches: Iterator[Any], contents: Callable[[Rows], Any]
  ) -> Stream:
    first = [*itertools.islice(batches, _LOOKED_AT)]
    found = [contents(host_rows(batch)) for batch in first]
    return Stream(itertools.chain(first, batches), _mean(found, self._hosts))


def _samples(rows: Rows) -> dict[str, float]:
  return {'samples': float(np.count_nonzero(rows['weight']))}


def _mean(found: Sequence[Mapping[str, float]], hosts: int) -> dict[str, float]:
  return {
    unit: hosts * float(np.mean([each[unit] for each in found]))
    for unit in found[0]
  }
