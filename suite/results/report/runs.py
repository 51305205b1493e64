"""Runs in the words and numbers of the report, from records and score."""

from collections.abc import Sequence
import dataclasses
import os

from suite import files, names
from suite.clock import RESTART
from suite.log_keys import MADE
from suite.results.records import Eval, RunRecord, Score, Value
from suite.results.report import figures
from suite.results.report import format as fmt

_LOSS_POINTS = 240  # more would not show


@dataclasses.dataclass(frozen=True)
class Run:
  """One run, in the words and numbers of the report."""

  index: int
  result: RunRecord
  place: Value | None  # the run in the score; None: it is not there
  standing: str  # counts, fastest, slowest, window, unscored
  style: int | None  # colour and marker; None where there are too many runs
  name: str = ''  # instead of its number

  @property
  def label(self) -> str:
    return self.name or f'run {self.index}'

  @property
  def reached(self) -> bool:
    return self.seconds is not None

  @property
  def seconds(self) -> float | None:
    """Time to quality, or None for a run that did not reach the target."""
    if self.place:  # the score depends on the audit
      return self.place.seconds
    return self.result.time_to_quality

  @property
  def verdict(self) -> str:
    if self.reached:
      return 'reached the target'
    if self.result.status == 'success':
      return 'not valid, see the audit'
    return self.result.reason or self.result.status

  @property
  def restarts(self) -> str:
    """See `restarts`."""
    return restarts(self.result)

  @property
  def counts(self) -> bool:
    return self.standing == 'counts'

  @property
  def log(self) -> str:
    return os.path.basename(files.log_path('', self.index))

  @property
  def tooltip(self) -> str:
    seed = f'{self.label}, seed {self.result.seed}'
    if self.seconds is None:
      return f'{seed}: {self.verdict}'
    place = '' if self.counts else f', {self.standing_words}'
    return f'{seed}: {fmt.duration(self.seconds)}{place}'

  @property
  def standing_words(self) -> str:
    return {
      'counts': 'counts',
      'fastest': 'left out: fastest',
      'slowest': 'left out: slowest',
      'window': 'left out: not in the median window',
      'unscored': fmt.NOTHING,
    }[self.standing]

  @property
  def progress(self) -> str:
    """Place of the last eval, in epochs or another unit."""
    evals = self.result.evals
    return fmt.count(evals[-1].place) if evals else fmt.NOTHING

  @property
  def made(self) -> dict[str, list[float]]:
    """Statistics of the data that the run made itself, block by block."""
    found: dict[str, list[float]] = {}
    for item in self.result.evals:
      for name, value in made_before(item).items():
        found.setdefault(name, []).append(value)
    return found

  def final(self, metric: str) -> str:
    evals = self.result.evals
    if not evals:
      return fmt.NOTHING
    return fmt.quality(evals[-1].quality.get(metric))

  def line(self, points: Sequence[tuple[float, float]], **more) -> figures.Line:
    return figures.Line(
      label=self.label,
      short=self.name or str(self.index),
      points=tuple(points),
      style=self.style,
      counts=self.standing not in ('fastest', 'slowest', 'window'),
      tooltip=self.tooltip,
      **more,
    )

  def curve(self, metric: str, *, over_seconds: bool, unit: float = 1.0):
    """Quality [(x, y)] over seconds / unit, or over epochs."""
    points = []
    for item in self.result.evals:
      x = item.seconds / unit if over_seconds else item.place
      if metric in item.quality:
        points.append((float(x), float(item.quality[metric])))
    return self.line(points, failed=not self.reached)

  def loss_curve(self) -> figures.Line:
    """Training loss over steps; ends in a cross where it stops being finite."""
    losses = self.result.losses
    points = [
      (float(step), float(loss)) for step, loss in losses if loss is not None
    ]
    broken = len(points) < len(losses)
    return self.line(figures.thinned(points, _LOSS_POINTS), failed=broken)


def restarts(record: RunRecord) -> str:
  """'resumed 1 time, 12 s lost'; empty for a run that nothing cut off."""
  if not record.resumed:
    return ''
  lost = record.timed.parts.get(RESTART, 0.0)
  times = names.counted(len(record.resumed), 'time')
  return f'resumed {times}, {fmt.duration(lost)} lost'


def made_before(item: Eval) -> dict[str, float]:
  """Statistics of the block before an eval, by their names in tables."""
  return {
    key.removeprefix(MADE): value for key, value in item.statistics.items()
  }


def read(results: Sequence[RunRecord], score: Score) -> tuple[Run, ...]:
  """The runs in order, each with its place in the score."""
  places = {value.run: value for value in score.values}
  scored = score.score_seconds is not None
  ordered = sorted(results, key=lambda result: result.run)
  few = len(ordered) <= figures.STYLES
  runs = []
  for number, result in enumerate(ordered):
    place = places.get(result.run)
    standing = (place.dropped or 'counts') if place else 'unscored'
    if standing == 'counts' and not scored:
      standing = 'unscored'
    style = number if few else None
    runs.append(Run(result.run, result, place, standing, style))
  return tuple(runs)


def progress_name(runs: Sequence[Run]) -> str:
  """Unit that the runs count their evals in: epochs, samples or another."""
  for run in runs:
    for item in run.result.evals:
      key = next(iter(item.at), 'step')
      one, many = fmt.units(key)
      return many if one != 'unit' else key.replace('_', ' ')
  return 'epochs'
