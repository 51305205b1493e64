"""The pictures of a report, drawn from runs and scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses

from markupsafe import Markup

from suite.results.records import RunRecord, Score
from suite.results.report import figures
from suite.results.report import format as fmt
from suite.results.report import runs as runs_lib
from suite.results.report.bars import Bar
from suite.results.report.bars import bars as draw_bars
from suite.results.report.runs import Run

WIDE, HALF = 1000, 480  # widths that figures are drawn for
_PARTS = {  # in the order of the bars
  'startup': ('build', 'preflight', 'compile', 'warm-up', 'init', 'restore'),
  'timed': (
    *('compute', 'self-play', 'waiting for input', 'eval', 'checkpoint'),
    'restart',
  ),
}
_PART_NAMES = {'input': 'waiting for input'}
_LAST = {'other': figures.STYLES, 'not accounted for': figures.STYLES + 1}
_SLACK = 0.005  # parts may miss their whole by this share before we say so


@dataclasses.dataclass(frozen=True)
class Curves:
  """Curves of one metric, on the clock and by epochs."""

  metric: str
  clock: Markup
  progress: Markup


@dataclasses.dataclass(frozen=True)
class Breakdown:
  """Time by part: a bar and a row of numbers for every run."""

  styles: Mapping[str, int]  # by part
  rows: tuple[tuple[str, tuple[float | None, ...]], ...]  # total comes last
  picture: Markup
  notes: tuple[str, ...]


def goals(result: RunRecord) -> list[figures.Bound]:
  """The bounds of the target of a result."""
  return [
    figures.Bound(metric, side, value)
    for metric, bounds in result.target.as_dict().items()
    for side, value in bounds.items()
  ]


def until(result: RunRecord) -> str:
  """The target in words, after 'until': 'accuracy is at least 0.97'."""
  words = [f'{goal.metric} is {goal.words}' for goal in goals(result)]
  return fmt.enumeration(words)


def times(runs: Sequence[Run], score: Score) -> Markup | None:
  """All times on one axis; None with fewer than two."""
  lines = [
    run.line([(run.seconds, 0.0)]) for run in runs if run.seconds is not None
  ]
  if len(lines) < 2:
    return None
  return figures.times(
    'times',
    lines,
    mean=score.score_seconds,
    interval=score.interval,
    width=WIDE,
  )


def learning_curves(
  runs: Sequence[Run], score: Score | None, prefix: str = ''
) -> list[Curves]:
  """The curves of every metric that the target names.

  By epochs they have the band in which the reference met the target, where the
  score knows of one.
  """
  evals = [item for run in runs for item in run.result.evals]
  if not evals:
    return []
  unit, size = figures.time_unit(max(item.seconds for item in evals))
  progress = runs_lib.progress_name(runs)
  band = reference_band(score) if score else None
  found = []
  for number, goal in enumerate(goals(runs[0].result)):
    name = goal.metric
    clock = [run.curve(name, over_seconds=True, unit=size) for run in runs]
    epochs = [run.curve(name, over_seconds=False) for run in runs]
    found.append(
      Curves(
        name,
        figures.curves(
          f'{prefix}clock-{number}',
          clock,
          x_label=f'{unit} on the clock',
          y_label=name,
          width=WIDE,
          bound=goal,
        ),
        figures.curves(
          f'{prefix}progress-{number}',
          epochs,
          x_label=progress,
          y_label=name,
          width=HALF,
          bound=goal,
          band=band,
        ),
      )
    )
  return found


def reference_band(score: Score) -> figures.Band | None:
  """Place at which runs of the reference met the target, +- two deviations."""
  reference = score.convergence and score.convergence.reference
  if not reference:
    return None
  mean, std = reference.mean, reference.std
  return figures.Band(
    max(0.0, mean - 2 * std), mean, mean + 2 * std, 'reference'
  )


def loss_curves(runs: Sequence[Run]) -> Markup | None:
  """The training loss of every run; None where none was recorded."""
  lines = [run.loss_curve() for run in runs]
  values = [y for line in lines for _, y in line.points]
  if not values:
    return None
  steep = min(values) > 0 and max(values) > 30 * min(values)
  return figures.curves(
    'loss',
    lines,
    x_label='steps',
    y_label='training loss',
    width=HALF,
    logarithmic=steep,
  )


def spending(runs: Sequence[Run], phase: str) -> list[Bar]:
  """Time by part that each run spent on a phase, 'startup' or 'timed'."""
  spent = [(run.label, getattr(run.result, phase)) for run in runs]
  return [Bar(label, each.parts, each.seconds) for label, each in spent]


def breakdown(
  rows: Sequence[Bar], phase: str, *, name: str = '', mean: bool = True
) -> Breakdown:
  """Time of a phase by part: a bar and a row of numbers for each."""
  spent = [_spent(row) for row in rows]
  names = _part_order(_PARTS[phase], spent)
  styles = {
    part: _LAST.get(part, number % figures.STYLES)
    for number, part in enumerate(names)
  }
  bars = [
    dataclasses.replace(row, parts={n: parts[n] for n in names if n in parts})
    for row, parts in zip(rows, spent, strict=True)
  ]
  table = [
    (bar.label, (*map(bar.parts.get, names), bar.seconds)) for bar in bars
  ]
  if mean and len(rows) > 1:
    table.append(('mean', _column_means([numbers for _, numbers in table])))
  when = 'on the clock' if phase == 'timed' else 'before the clock'
  title = f'Where the time {when} went'
  return Breakdown(
    styles=styles,
    rows=tuple(table),
    picture=draw_bars(name or phase, bars, styles, width=WIDE, title=title),
    notes=tuple(_excess(bars)),
  )


def _excess(bars: Sequence[Bar]) -> Iterator[str]:
  for bar in bars:
    excess = sum(bar.parts.values()) - bar.seconds
    if excess > _slack(bar.seconds):
      yield (
        f'The parts of {bar.label} are {fmt.duration(excess)} longer than '
        'their whole.'
      )


def _spent(row: Bar) -> dict[str, float]:
  """Seconds by part; what the parts leave unexplained is a part as well."""
  parts = {_PART_NAMES.get(n, n): float(s) for n, s in row.parts.items()}
  missing = row.seconds - sum(parts.values())
  if missing > _slack(row.seconds):
    parts['not accounted for'] = missing
  return parts


def _slack(whole: float) -> float:
  return max(0.05, _SLACK * whole)


def _part_order(
  known: Sequence[str], spent: Iterable[Mapping[str, float]]
) -> list[str]:
  """The known parts that occur, then new ones, then the remainders."""
  seen = list(dict.fromkeys(name for parts in spent for name in parts))
  new = [name for name in seen if name not in (*known, *_LAST)]
  return [name for name in (*known, *new, *_LAST) if name in seen]


def _column_means(
  rows: Sequence[tuple[float | None, ...]],
) -> tuple[float, ...]:
  return tuple(
    sum(value or 0.0 for value in column) / len(rows)
    for column in zip(*rows, strict=True)
  )
