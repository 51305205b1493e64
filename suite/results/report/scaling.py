"""The page of a scaling study: throughput, efficiency and where time went."""

from collections.abc import Sequence

from markupsafe import Markup

from suite.results import scaling
from suite.results.records import RunRecord
from suite.results.report import facts, pictures, published_curves, trends
from suite.results.report import format as fmt
from suite.results.report.page import Report, environment
from suite.results.report.pictures import HALF, WIDE
from suite.results.report.trends import Trend
from suite.results.scaling import Efficiency, Measured, Point

_PARTS = ('total', 'throughput', 'epochs', 'overhead')
_STYLES = {'total': 0, 'throughput': 2, 'epochs': 1, 'overhead': 4}
UNITS = {'strong': 'devices', 'weak': 'devices', 'batch': 'global batch'}


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
  found = [(p, scaling.measure(p), scaling.efficiency(p, points[0]))
           for p in points]  # fmt: skip
  drawn = _pictures(found, mode, record.benchmark)
  spent = pictures.breakdown(
    [_spending(point, mode, measured) for point, measured, _ in found],
    'timed',
    name='spent',
    mean=False,
  )
  html = environment().get_template('scaling.html').render(
    mode=mode,
    first=record,
    rows=found,
    reference=points[0],
    drawn=drawn,
    spent=spent,
    goal=fmt.enumeration(
      [f'{g.metric} is {g.words}' for g in pictures.goals(record)]
    ),
    notes=notes,
    source=published_curves.SOURCE,
    command=facts.command(command),
  )  # fmt: skip
  figures = {name: each for name, each in drawn.items() if each}
  figures['spent'] = spent.picture
  tables = {'points': table(points), 'runs': _runs(points)}
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
      fmt.NOTHING if row[name] is None else f'{row[name]:.3f}'
      for name in ('total_efficiency', 'throughput_efficiency',
                   'epochs_ratio', 'overhead_ratio')
    ]  # fmt: skip
    rows.append((
      str(row['devices']), str(row['processes']), str(row['batch']),
      f'{row["met"]} of {row["runs"]}', f'{row["samples_per_second"]:,.0f}',
      fmt.count(row['epochs']), fmt.duration(row['seconds']),
      ratio[0], '=', ratio[1], 'x', ratio[2], 'x', ratio[3],
    ))  # fmt: skip
  widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
  return [
    '  '.join(t.rjust(w) for t, w in zip(row, widths, strict=True))
    for row in rows
  ]


def _runs(points: Sequence[Point]) -> list[dict]:
  return [
    {'devices': point.devices, 'processes': point.processes,
     'batch': point.batch, 'run': run.number, 'seconds': run.seconds,
     'samples': run.samples, 'epochs': run.reached, **run.parts}
    for point in points for run in point.runs
  ]  # fmt: skip


def _x(point: Point, mode: str) -> int:
  return point.batch if mode == 'batch' else point.devices


def _label(point: Point, mode: str) -> str:
  if mode == 'batch':
    return f'batch {point.batch}'
  processes = f' in {point.processes}' if point.processes > 1 else ''
  return f'{scaling.counted(point.devices, "device")}{processes}'


def _spending(point: Point, mode: str, measured: Measured) -> pictures.Spending:
  whole = sum(measured.parts.values())
  return pictures.Spending(_label(point, mode), measured.parts, whole)


def _pictures(
  found: Sequence[tuple[Point, Measured, Efficiency]],
  mode: str,
  benchmark: str,
) -> dict[str, Markup | None]:
  rate = [(_x(p, mode), m.throughput) for p, m, _ in found]
  kinds = {
    part: [(_x(p, mode), v) for p, _, e in found
           if (v := getattr(e, part)) is not None]
    for part in _PARTS
  }  # fmt: skip
  runs = [(_x(p, mode), run) for p, _, _ in found for run in p.runs]
  throughput = [_trend('measured', rate)]
  if mode != 'batch':
    (x0, y0), (x1, _) = rate[0], max(rate)
    ideal = ((x0, y0), (x1, y0 * x1 / x0))
    throughput.append(Trend('ideal', ideal, ideal=True, style=3))
  x = UNITS[mode]
  return {
    'throughput': _draw('throughput', throughput, x, 'samples per second'),
    'epochs': _draw(
      'epochs',
      [_trend(
        'mean run',
        [(_x(p, mode), m.epochs) for p, m, _ in found if m.epochs is not None],
        [(at, run.reached) for at, run in runs if run.seconds is not None],
      )],
      x,
      'epochs to the target',
    ),
    'seconds': _draw(
      'seconds',
      [_trend(
        'mean run',
        [(_x(p, mode), m.seconds) for p, m, _ in found
         if m.seconds is not None],
        [(at, run.seconds) for at, run in runs if run.seconds is not None],
      )],
      x,
      'seconds to quality',
    ),
    'efficiency': _draw(
      'efficiency',
      [Trend(part, tuple(kinds[part]), style=_STYLES[part]) for part in _PARTS],
      x,
      'against the first point, 1 is as good',
      WIDE,
    ),
    'published-efficiency': _beside(
      'efficiency', benchmark, [(x, e.total) for x, (p, _, e) in
      zip([p.devices for p, _, _ in found], found, strict=True)
      if e.total is not None] if mode == 'strong' else [],
    ),
    'published-epochs': _beside(
      'epochs', benchmark,
      [(p.batch, m.epochs) for p, m, _ in found if m.epochs is not None],
    ),
  }  # fmt: skip


def _trend(
  label: str,
  points: Sequence[tuple[float, float]],
  dots: Sequence[tuple[float, float]] = (),
) -> Trend:
  return Trend(label, tuple(points), tuple(dots))


def _beside(
  kind: str, benchmark: str, ours: Sequence[tuple[float, float]]
) -> Markup | None:
  """Ours and the published curves, as multiples of the smallest of each."""
  others = published_curves.of(benchmark, kind)
  xs = {x for x, _ in ours}
  if not others or len(xs) < 2 or len(xs) < len(ours):
    return None
  (x0, y0) = min(ours)
  drawn = [_trend('this study', [(x / x0, y / y0) for x, y in sorted(ours)])]
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
