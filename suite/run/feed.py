"""A run's batches: they exist only once the clock is running."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np

from suite.clock import Clock
from suite.run.blocks import Block

STEP = 'step'

Rows = Mapping[str, np.ndarray]  # this host's rows of a batch


@dataclasses.dataclass(frozen=True)
class Data:
  """Place of a run's data, and the way of this host's share to the devices."""

  clock: Clock
  location: str  # for messages; to read, use `directory`
  seed: int
  put: Callable[[Rows], Any]  # host rows -> global arrays
  host: int = 0
  hosts: int = 1
  start: Any = None  # weights to start from: see `suite.run.start.Weights`
  reading: Any = None  # how the pipeline reads; the core only passes it on
  # Of a resumed run: `Feed.position` of the previous process.
  position: Mapping[str, Any] | None = None
  # Where a feed may keep what else it needs to resume, each host its own files;
  # None: no checkpoints are saved.
  kept: str | None = None

  @property
  def share(self) -> dict[str, int]:
    """This host's share of the rows, as pipelines take it."""
    return {'host': self.host, 'hosts': self.hosts}

  @property
  def threads(self) -> int | None:
    """Threads that make batches ahead; None: as many as there are cores."""
    return self.reading.threads if self.reading else None

  @property
  def first_step(self) -> int:
    """Training step to begin with, from 0, for supervised feeds."""
    return (self.position or {}).get(STEP, 0)

  @property
  def training(self) -> dict[str, Any]:
    """Arguments of a pipeline of training batches: order, place, threads."""
    return {
      'seed': self.seed,
      'first_step': self.first_step,
      'threads': self.threads,
      **self.share,
    }

  @property
  def directory(self) -> str:
    """The data set's directory; RuntimeError unless the clock is running."""
    self.clock.require_running(f'data set {self.location} was opened')
    return self.location


class Maker(Protocol):
  """Programs that a feed may run on the devices; hosts do so in one order."""

  def call(self, name: str, state: Any, argument: Any) -> Any:
    """Calls what the task staged under `name`."""

  def most(self, number: int) -> int:
    """Returns the largest number that any host has; waits for all."""

  def total(self, numbers: Sequence[float]) -> np.ndarray:
    """Sums float64 numbers [N] over all hosts; N is the same on each.

    Hosts that feed the same rows count once.
    """


class Feed(Protocol):
  """Batches for training and for evals, as global arrays on the devices."""

  def train_block(
    self, block: Block, state: Any, maker: Maker
  ) -> Iterator[Any]:
    """Yields `block.steps` batches, or as many as there are.

    `state` is the state at the block's start, for feeds that make their data
    with it (self-play); it is gone with the first step. Supervised feeds ignore
    it and the maker. A run that is resumed in the middle of a block asks for
    what remains of it.
    """

  def statistics(self) -> Mapping[str, float]:
    """Statistics of the data of the last block, for the log, by key."""

  def eval_batches(self) -> Iterator[Any]:
    """Yields every eval example once, in batches padded with weight 0."""

  def score(self, predictions: Iterator[Any], maker: Maker) -> dict[str, float]:
    """The host half of an eval: quality by metric.

    `predictions` yields the output of `Task.combine` for each eval batch, as
    numpy arrays, while later batches are computed; all must be consumed. Where
    rows stay with their hosts, `maker.total` adds up what the hosts found.
    """

  def position(self) -> Mapping[str, Any]:
    """Place after the batches that it has yielded, to resume from.

    Plain values, which JSON holds; `Data.position` passes them to the task's
    `open`, perhaps with another number of hosts.
    """

  def close(self) -> None:
    """Stops reading ahead; called once, when the clock has stopped."""


class SupervisedFeed:
  """Batches from a stream on disk, put on the devices a few steps ahead."""

  def __init__(
    self,
    train: Iterable[Rows],
    evaluation: Callable[[], Iterable[Rows]],
    put: Callable[[Rows], Any],
    *,
    score: Callable[[Iterator[Any]], dict[str, float]] | None = None,
    first_step: int = 0,
    ahead: int = 2,
  ):
    """Opens the training stream; `evaluation()` opens one pass over the evals.

    Args:
      train: endless host rows, from `first_step` on.
      evaluation: makes a finite iterable of host rows.
      put: host rows -> global arrays; asynchronous on accelerators.
      score: predictions of an eval -> quality by metric; None where a subclass
        has a `score` of its own.
      first_step: the training step that they begin with.
      ahead: batches that lie on the devices before they are asked for.
    """
    self._stream = iter(train)
    self._train = put_ahead(self._stream, put, ahead)
    self._evaluation = evaluation
    self._put = put
    self._score = score
    self._ahead = ahead
    self._step = first_step

  def train_block(self, block, state, maker):
    """See Feed."""
    del state, maker
    for _ in range(block.steps):
      batch = next(self._train)
      self._step += 1
      yield batch

  def statistics(self):
    """See Feed."""
    return {}

  def eval_batches(self):
    """See Feed."""
    return put_ahead(iter(self._evaluation()), self._put, self._ahead)

  def score(self, predictions, maker):
    """See Feed."""
    del maker
    return self._score(predictions)

  def position(self):
    """See Feed."""
    return {STEP: self._step}

  def close(self):
    """See Feed."""
    self._train.close()
    if hasattr(self._stream, 'close'):
      self._stream.close()


def put_ahead(rows: Iterator[Rows], put, ahead: int) -> Iterator[Any]:
  """Puts rows on the devices early, one more each time, up to `ahead`.

  So the first step starts as soon as there is a batch, and the device computes
  while the pipeline gets ahead of it.
  """
  waiting = collections.deque()
  given = 0
  for row in rows:
    waiting.append(put(row))
    if len(waiting) > min(ahead, given):
      given += 1
      yield waiting.popleft()
  yield from waiting
