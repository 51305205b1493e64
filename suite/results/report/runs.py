"""What the report says about each run, read from results and score."""

from collections.abc import Mapping, Sequence
import dataclasses

from suite.clock import RESTART
from suite.results.report import figures
from suite.results.report import format as fmt

_PROGRESS = {'epoch_num': 'epochs', 'samples_count': 'samples'}
_LOSS_POINTS = 240  # more would not show


@dataclasses.dataclass(frozen=True)
class Run:
  """One run, in the words and numbers of the report."""

  index: int
  result: Mapping
  place: Mapping | None  # what the score says of the run; None: nothing
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
    if self.place:  # the score has heard the audit
      seconds = self.place['seconds']
    else:
      seconds = self.result['time_to_quality']
    return seconds if fmt.is_finite(seconds) else None

  @property
  def verdict(self) -> str:
    if self.reached:
      return 'reached the target'
    if self.result['status'] == 'success':
      return 'not valid, see the audit'
    return str(self.result.get('reason') or self.result['status'])

  @property
  def restarts(self) -> str:
    """'resumed 1 time, 12 s lost'; empty for a run that nothing cut off."""
    count = len(self.result.get('resumed') or ())
    if not count:
      return ''
    lost = self.result['timed']['parts'].get(RESTART, 0.0)
    times = 'time' if count == 1 else 'times'
    return f'resumed {count} {times}, {fmt.duration(lost)} lost'

  @property
  def counts(self) -> bool:
    return self.standing == 'counts'

  @property
  def log(self) -> str:
    return self.result.get('log') or f'result_{self.index}.txt'

  @property
  def excess(self) -> float:
    """Startup beyond the allowance, in seconds; it is added to the time."""
    startup = self.result['startup']
    allowance = startup.get('allowance')
    if not fmt.is_finite(allowance):
      return 0.0
    return max(0.0, startup['seconds'] - allowance)

  @property
  def tooltip(self) -> str:
    seed = f'{self.label}, seed {self.result["seed"]}'
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
    """How far the last eval was, in epochs or the like."""
    evals = self.result['evals']
    return fmt.count(_progress(evals[-1])) if evals else fmt.NOTHING

  def final(self, metric: str) -> str:
    evals = self.result['evals']
    if not evals:
      return fmt.NOTHING
    return fmt.quality(evals[-1]['quality'].get(metric))

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
    for item in self.result['evals']:
      x = item['seconds'] / unit if over_seconds else _progress(item)
      y = item['quality'].get(metric)
      if fmt.is_finite(x) and fmt.is_finite(y):
        points.append((float(x), float(y)))
    return self.line(points, failed=not self.reached)

  def loss_curve(self) -> figures.Line:
    """Training loss over steps; ends in a cross where it stops being finite."""
    losses = self.result.get('losses') or []
    points = [
      (float(step), float(loss)) for step, loss in losses if fmt.is_finite(loss)
    ]
    broken = len(points) < len(losses)
    return self.line(figures.thinned(points, _LOSS_POINTS), failed=broken)


def read(results: Sequence[Mapping], score: Mapping) -> tuple[Run, ...]:
  """The runs in order, each with its place in the score."""
  places = {value['run']: value for value in score['values']}
  scored = fmt.is_finite(score['score_seconds'])
  ordered = sorted(results, key=lambda result: result['run'])
  few = len(ordered) <= figures.STYLES
  runs = []
  for number, result in enumerate(ordered):
    place = places.get(result['run'])
    standing = (place.get('dropped') or 'counts') if place else 'unscored'
    if standing == 'counts' and not scored:
      standing = 'unscored'
    style = number if few else None
    runs.append(Run(result['run'], result, place, standing, style))
  return tuple(runs)


def progress_name(runs: Sequence[Run]) -> str:
  """What the runs count their evals in: epochs, samples or another name."""
  for run in runs:
    for item in run.result['evals']:
      key = next(iter(item['at']), 'step')
      return _PROGRESS.get(key, key.replace('_', ' '))
  return 'epochs'


def _progress(item: Mapping) -> float | None:
  return next(iter(item['at'].values()), item.get('step'))
