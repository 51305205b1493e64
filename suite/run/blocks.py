"""Blocks: the training between two evals, and how the log names its place."""

from collections.abc import Iterable, Mapping
import dataclasses

# Units of a place, by the key that the log gives it. Some benchmarks, as the
# rules have it, count samples under the key of epochs.
EPOCHS, SAMPLES = 'epoch_num', 'samples_count'
_EPSILON = 9  # digits of a fraction of an epoch


@dataclasses.dataclass(frozen=True)
class Block:
  """The training between two evals, and how the log names its place."""

  steps: int | None  # None: as many as the feed yields
  samples: int | None  # examples that its steps train on; None: all rows
  start: Mapping[str, float]  # metadata of block_start
  stop: Mapping[str, float]  # metadata of block_stop
  at: Mapping[str, float]  # metadata of the eval that follows


@dataclasses.dataclass(frozen=True)
class End:
  """The end of a block, counted from the start of the run."""

  place: float  # in the unit that the log counts in
  steps: int | None = None
  samples: int | None = None


def between(
  ends: Iterable[End], *, unit: str = EPOCHS, before: float = 0
) -> list[Block]:
  """Blocks that join each other and have these ends.

  Args:
    ends: in order.
    unit: of their places.
    before: the place where the run starts, as after given generations.
  """
  blocks, last = [], End(before, 0, 0)
  for end in ends:
    blocks.append(
      Block(
        _difference(end.steps, last.steps),
        _difference(end.samples, last.samples),
        **_named(last.place, end.place, unit),
      )
    )
    last = end
  return blocks


def each_epoch(
  epochs: int,
  *,
  every: int = 1,
  first: int | None = None,
  steps: int | None = None,
  samples: int | None = None,
  before: int = 0,
) -> list[Block]:
  """A block an epoch, or every few of them.

  `first` is the epoch of the first eval, by default `every`. An epoch has so
  many `steps` and `samples`; None: as the feed yields them.
  """

  def whole(number: int, each: int | None) -> int | None:
    return None if each is None else number * each

  return between(
    (
      End(before + number, whole(number, steps), whole(number, samples))
      for number in range(first or every, epochs + 1, every)
    ),
    before=before,
  )


def after_epochs(
  epochs: Iterable[int], *, samples: int, rows: int, unit: str = EPOCHS
) -> list[Block]:
  """Blocks that end after some epochs, as range(3, 51, 4).

  A batch of `rows` may hold the end of one epoch and the start of the next. The
  rules then have the eval after it. `samples` make an epoch.
  """
  ends = []
  for epoch in epochs:
    steps = -(-epoch * samples // rows)
    place = epoch if unit == EPOCHS else epoch * samples
    ends.append(End(place, steps, steps * rows))
  return between(ends, unit=unit)


def every_samples(
  interval: int,
  *,
  rows: int,
  most: int,
  first: int | None = None,
  key: str = SAMPLES,
) -> list[Block]:
  """Blocks of so many samples each, rounded up to whole batches of `rows`.

  Args:
    interval: samples from one eval to the next.
    rows: of a batch.
    most: samples that a run may train on; no block begins there or later.
    first: samples before the first eval; by default `interval`.
    key: what the log calls a place; EPOCHS where the rules want samples there.
  """
  steps, each = -(-(first or interval) // rows), -(-interval // rows)
  ends = []
  while not ends or ends[-1].samples < most:
    ends.append(End(steps * rows, steps, steps * rows))
    steps += each
  return between(ends, unit=key)


def in_fractions(
  parts: int, *, steps: int, rows: int, epochs: int = 1, before: float = 0
) -> list[Block]:
  """So many blocks of equal steps an epoch; a place is a fraction of it.

  Steps that are left over begin the next block, as the rules have it: the last
  of 20 may end at epoch 0.9999. An epoch has `steps` of `rows` samples; the
  first begins at `before`.
  """
  each = steps // parts
  if not each:
    raise ValueError(
      f'Expected a step or more for each of {parts} parts of an epoch, got '
      f'{steps} steps.'
    )
  return between(
    (
      End(before + number * each / steps, number * each, number * each * rows)
      for number in range(1, epochs * parts + 1)
    ),
    before=before,
  )


def where(at: Mapping[str, float]) -> str:
  """{'epoch_num': 4} -> 'epoch 4', {'samples_count': 9000} -> '9,000 samples'.

  Of a place that has both, the samples.
  """
  if SAMPLES in at:
    return f'{at[SAMPLES]:,} samples'
  return f'epoch {at[EPOCHS]:.10g}'


def _difference(end: int | None, last: int | None) -> int | None:
  return None if end is None or last is None else end - last


def _named(first: float, last: float, unit: str) -> Mapping[str, Mapping]:
  """Metadata as official logs have it.

  Whole epochs count from 1. Samples and fractions begin at what is done.
  """
  first, last = round(first, _EPSILON), round(last, _EPSILON)
  if unit == SAMPLES:
    start, stop = {SAMPLES: first}, {SAMPLES: last}
    return {'start': start, 'stop': stop, 'at': stop}
  count = round(last - first, _EPSILON)
  stop = {'first_epoch_num': first + (count == round(count))}
  start = {**stop, 'epoch_count': count}
  return {'start': start, 'stop': stop, 'at': {EPOCHS: last}}
