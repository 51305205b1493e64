"""A run's batches: they exist only once the clock is running."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
from typing import Any, Protocol

import numpy as np

from suite.clock import Clock

STEP = 'step'

Rows = Mapping[str, np.ndarray]  # this host's rows of a batch


@dataclasses.dataclass(frozen=True)
class Block:
  """The training between two evals, and how the log names its place."""

  steps: int
  samples: int  # examples that its steps train on
  start: Mapping[str, float]  # metadata of block_start
  stop: Mapping[str, float]  # metadata of block_stop
  at: Mapping[str, float]  # metadata of the eval that follows


@dataclasses.dataclass(frozen=True)
class Data:
  """Where a run's data lies and how this host's share reaches the devices."""

  clock: Clock
  location: str  # for messages; to read, use `directory`
  seed: int
  put: Callable[[Rows], Any]  # host rows -> global arrays
  host: int = 0
  hosts: int = 1
  reading: Any = None  # how the pipeline is to read; the core only hands it on
  # Of a run that goes on: what the `Feed.position` of its dead process said.
  position: Mapping[str, Any] | None = None

  @property
  def first_step(self) -> int:
    """The training step to begin with, from 0, for supervised feeds."""
    return (self.position or {}).get(STEP, 0)

  @property
  def directory(self) -> str:
    """The data set's directory; RuntimeError unless the clock is running."""
    self.clock.require_running(f'data set {self.location} was opened')
    return self.location


class Feed(Protocol):
  """Batches for training and for evals, as global arrays on the devices."""

  def train_block(
    self, block: Block, state: Any, call: Callable[..., Any]
  ) -> Iterator[Any]:
    """Yields `block.steps` batches.

    `state` is the state at the block's start, for feeds that make their data
    with it (self-play); `call(name, state, argument)` runs what the task
    staged. Supervised feeds ignore both. A run that goes on in the middle of a
    block asks for what remains of it.
    """

  def eval_batches(self) -> Iterator[Any]:
    """Yields every eval example once, in batches padded with weight 0."""

  def position(self) -> Mapping[str, Any]:
    """What a feed needs to go on after the batches that it has yielded.

    Plain values, which JSON holds; `Data.position` hands them back to the
    task's `open`, perhaps with another number of hosts.
    """

  def close(self) -> None:
    """Ends what reads ahead; called once, when the clock has stopped."""


class SupervisedFeed:
  """Batches from a stream on disk, put on the devices a few steps ahead."""

  def __init__(
    self,
    train: Iterable[Rows],
    evaluation: Callable[[], Iterable[Rows]],
    put: Callable[[Rows], Any],
    *,
    first_step: int = 0,
    ahead: int = 2,
  ):
    """Opens the training stream; `evaluation()` opens one pass over the evals.

    Args:
      train: endless host rows, from `first_step` on.
      evaluation: makes a finite iterable of host rows.
      put: host rows -> global arrays; asynchronous on accelerators.
      first_step: the training step that they begin with.
      ahead: batches that lie on the devices before they are asked for.
    """
    self._stream = iter(train)
    self._train = _put_ahead(self._stream, put, ahead)
    self._evaluation = evaluation
    self._put = put
    self._ahead = ahead
    self._step = first_step

  def train_block(self, block, state, call):
    """See Feed."""
    del state, call
    for _ in range(block.steps):
      batch = next(self._train)
      self._step += 1
      yield batch

  def eval_batches(self):
    """See Feed."""
    return _put_ahead(iter(self._evaluation()), self._put, self._ahead)

  def position(self):
    """See Feed."""
    return {STEP: self._step}

  def close(self):
    """See Feed."""
    self._train.close()
    if hasattr(self._stream, 'close'):
      self._stream.close()


def _put_ahead(rows: Iterator[Rows], put, ahead: int) -> Iterator[Any]:
  """Puts rows before they are asked for, one more each time, up to `ahead`.

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
