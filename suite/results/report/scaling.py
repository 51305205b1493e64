"""The page of a scaling study: throughput, efficiency and where time went."""

from collections.abc import Sequence

from markupsafe import Markup

from suite import names
from suite.results import published, scaling
from suite.results.records import RunRecord
from suite.results.report import facts, pictures, trends
from suite.results.report import format as fmt
from suite.results.report.bars import Bar
from suite.results.report.page import Report, environment
from suite.results.report.pictures import HALF, WIDE
from suite.results.report.trends import Trend
from suite.results.scaling import Point

_LABELS = {'devices': 'devices', 'batch': 'global batch'}  # of the x axis
# Figure: column of a point, attribute of its runs, label of the y axis.
_MEANS = {
  'throughput': ('samples_per_second', '', 'samples per second'),
  'epochs': ('epochs', 'reached', 'epochs to the target'),
  'seconds': ('seconds', 'seconds', 'seconds to quality'),
}
_EFFICIENCIES = {  # column and style
  'total': ('total_efficiency', 0),
  'throughput': ('throughput_efficiency', 2),
  'epochs': ('epochs_ratio', 1),
  'overhead': ('overhead_ratio', 4),
}


def build(
  points: Sequence[Point],
  *,
  mode: str,
  record: RunRecord,
  command: Sequence[str],
  notes: Sequence[str] = (),
) -> Report:
  """The page, its figures and its numbers.

  Args:
    points: in order, the reference first.
    mode: strong, weak or batch; see `launch.scaling`.
    record: of any run: the benchmark, the target, the system and versions.
    command: what made the study, for the reader to repeat.
    notes: what a reader should be warned of.
  """
  rows = table(points)
  drawn = _pictures(points, rows, mode, record.benchmark)
  spending = [_spending(point, mode) for point in points]
  spent = pictures.breakdown(spending, 'timed', name='spent', mean=False)
  html = environment().get_template('scaling.html').render(
    mode=mode,
    first=record,
    rows=rows,
    drawn=drawn,
    spent=spent,
    goal=pictures.until(record),
    notes=notes,
    source=published.CURVES_SOURCE,
    command=facts.command(command),
  )  # fmt: skip
  figures = {name: each for name, each in drawn.items() if each}
  figures['spent'] = spent.picture
  tables = {'points': rows, 'runs': _runs(points)}
  return Report(html=html, figures=figures, tables=tables)


def table(points: Sequence[Point]) -> list[dict]:
  """A row of plain numbers for every point, the reference first."""
  rows = []
  for point in points:
    measured = scaling.measure(point)
    against = scaling.efficiency(point, points[0])
    rows.append({
      'devices': point.devices,
      'processes': point.processes,
      'batch': point.batch,
      'runs': len(point.runs),
      'met': sum(run.seconds is not None for run in point.runs),
      'samples_per_second': measured.throughput,
      'epochs': measured.epochs,
      'seconds': measured.seconds,
      'overhead': measured.overhead,
      'throughput_efficiency': against.throughput,
      'epochs_ratio': against.epochs,
      'overhead_ratio': against.overhead,
      'total_efficiency': against.total,
      **{f'seconds_{fmt.slug(n)}': s for n, s in measured.parts.items()},
    })  # fmt: skip
  return rows


def lines(points: Sequence[Point]) -> list[str]:
  """The rows as lines for a terminal."""
  head = (
    'devices', 'processes', 'batch', 'met', 'samples/s', 'epochs',
    'time to quality', 'total', '=', 'throughput', 'x', 'epochs', 'x',
    'overhead',
  )  # fmt: skip
  rows = [head]
  for row in table(points):
    ratio = [
      fmt.NOTHING if row[column] is None else f'{row[column]:.3f}'
      for column, _ in _EFFICIENCIES.values()
    ]
    rows.append((
      str(row['devices']), str(row['processes']), str(row['batch']),
      f'{row["met"]} of {row["runs"]}', f'{row["samples_per_second"]:,.0f}',
      fmt.count(row['epochs']), fmt.duration(row['seconds']),
      ratio[0], '=', ratio[1], 'x', ratio[2], 'x', ratio[3],
    ))  # fmt: skip
  return fmt.columns(rows, str.rjust)


def _runs(points: Sequence[Point]) -> list[dict]:
  return [
    {'devices': point.devices, 'processes': point.processes,
     'batch': point.batch, 'run': run.number, 'seconds': run.seconds,
     'samples': run.samples, 'epochs': run.reached, **run.parts}
    for point in points for run in point.runs
  ]  # fmt: skip


def _spending(point: Point, mode: str) -> Bar:
  parts = scaling.measure(point).parts
  label = f'batch {point.batch}'
  if mode != 'batch':
    processes = f' in {point.processes}' if point.processes > 1 else ''
    label = f'{names.counted(point.devices, "device")}{processes}'
  return Bar(label, parts, sum(parts.values()))


def _pictures(
  points: Sequence[Point], rows: Sequence[dict], mode: str, benchmark: str
) -> dict[str, Markup | None]:
  at = 'batch' if mode == 'batch' else 'devices'
  drawn = {}
  for name, (column, of_run, y_label) in _MEANS.items():
    label = 'mean run' if of_run else 'measured'
    dots = tuple(
      (getattr(point, at), getattr(run, of_run))
      for point in points
      for run in point.runs
      if of_run and run.seconds is not None
    )
    lines = [Trend(label, _spots(rows, at, column), dots)]
    if name == 'throughput' and at == 'devices':
      (x0, y0), (x1, _) = lines[0].points[0], max(lines[0].points)
      ideal = ((x0, y0), (x1, y0 * x1 / x0))
      lines.append(Trend('ideal', ideal, ideal=True, style=3))
    drawn[name] = _draw(name, lines, _LABELS[at], y_label)
  lines = [
    Trend(part, _spots(rows, at, column), style=style)
    for part, (column, style) in _EFFICIENCIES.items()
  ]
  y_label = 'against the first point, 1 is as good'
  drawn['efficiency'] = _draw('efficiency', lines, _LABELS[at], y_label, WIDE)
  ours = _spots(rows, 'devices', 'total_efficiency')
  drawn['published-efficiency'] = _beside(
    published.EFFICIENCY, benchmark, ours if mode == 'strong' else ()
  )
  ours = _spots(rows, 'batch', 'epochs')
  drawn['published-epochs'] = _beside(published.EPOCHS, benchmark, ours)
  return drawn


def _spots(
  rows: Sequence[dict], x: str, y: str
) -> tuple[tuple[float, float], ...]:
  """Two columns of the table of points, where both are known."""
  return tuple((row[x], row[y]) for row in rows if row[y] is not None)


def _beside(
  kind: str, benchmark: str, ours: Sequence[tuple[float, float]]
) -> Markup | None:
  """Ours and the published curves, as multiples of the smallest of each."""
  others = published.curves(benchmark, kind)
  xs = {x for x, _ in ours}
  if not others or len(xs) < 2 or len(xs) < len(ours):
    return None
  (x0, y0) = min(ours)
  own = tuple((x / x0, y / y0) for x, y in sorted(ours))
  drawn = [Trend('this study', own)]
  drawn += [
    Trend(curve.label, curve.relative, style=2 + i % 4, context=True)
    for i, curve in enumerate(others)
  ]
  x, y = {
    'efficiency': ('times the devices', 'total efficiency'),
    'epochs': ('times the batch', 'times the epochs'),
  }[kind]
  return _draw(f'published-{kind}', drawn, x, y, WIDE)


def _draw(
  name: str, drawn: Sequence[Trend], x: str, y: str, width: int = HALF
) -> Markup | None:
  drawn = [line for line in drawn if line.points]
  if not drawn:
    return None
  return trends.trends(
    name, drawn, width=width, title=f'{y} by {x}', x_label=x, y_label=y
  )
