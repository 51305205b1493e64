"""Measured speeds as tables: for a terminal, and as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from suite import names
from suite.results import published, speed
from suite.results.report import facts
from suite.results.report import format as fmt
from suite.results.report.page import environment
from suite.results.speed import Change, Point

_SHARED_CORES = (
  'These devices are shares of the cores of one machine: throughput over '
  'devices shows the mechanics, not what more hardware brings.'
)
Table = list[tuple[str, ...]]  # the head, then the rows


def short(point: Point) -> str:
  """A point in a line, as it is done."""
  found = speed.summary(point)
  if point['failed']:
    return f'{speed.title(point)}: failed: {point["failed"]}'
  if found is None:
    return f'{speed.title(point)}: measured'
  return (
    f'{speed.title(point)}: {_rate(found.samples_per_second)} samples/s, '
    f'{_time(found.seconds)} a step'
  )


def lines(points: Sequence[Point]) -> list[str]:
  """Everything about a single point, or a row of each of several."""
  if len(points) == 1 and not points[0]['failed']:
    return _one(points[0])
  shown = ['', *fmt.columns(overview(points))]
  shown += [
    f'{speed.title(point)}: {point["failed"]}'
    for point in points
    if point['failed']
  ]
  on_cpu = any(p.get('system', {}).get('platform') == 'cpu' for p in points)
  if on_cpu and _scales(points):
    shown.append(_SHARED_CORES)
  return [*shown, '', speed.NO_RESULT]


def overview(points: Sequence[Point]) -> Table:
  """A row of each point: train steps, or why there are none."""
  rows: Table = [
    ('benchmark', 'devices', 'batch', 'samples/s', 'a device', 'efficiency',
     'step', 'spread', 'CPU s', 'FLOP/s', 'of measured peak', 'of published',
     'memory', 'compile', 'at best', 'in collectives')
  ]  # fmt: skip
  by_first = speed.efficiencies(points)
  scales = _scales(points)
  for point, efficiency in zip(points, by_first, strict=True):
    found = speed.summary(point)
    head = (speed.title(point), fmt.plain(point.get('devices')))
    if found is None:
      rows.append((*head, 'failed', *[fmt.NOTHING] * (len(rows[0]) - 3)))
      continue
    each = found.samples_per_second / point['devices']
    rows.append((
      *head,
      fmt.count(point['batch']),
      _rate(found.samples_per_second),
      _rate(each),
      fmt.percent(efficiency) if scales else fmt.NOTHING,
      _time(found.seconds),
      fmt.percent(found.spread),
      _time(found.processor),
      fmt.rate(found.flops_rate, ''),
      fmt.percent(found.of_measured_peak),
      fmt.percent(found.of_published_peak),
      _bytes(found.memory),
      compiled(point),
      fmt.percent(found.best),
      fmt.percent((point['trace'] or {}).get('in_collectives')),
    ))  # fmt: skip
  return rows


def changed(changes: Sequence[Change]) -> Table:
  """A row of each program that was measured before, or is now."""
  rows: Table = [('program', 'before', 'now', 'ratio', 'noise', '')]
  for each in changes:
    known = each.ratio is not None
    rows.append((
      each.name,
      _time(each.before),
      _time(each.now),
      f'{each.ratio:.3f}' if known else fmt.NOTHING,
      fmt.percent(each.noise) if known else fmt.NOTHING,
      each.words,
    ))  # fmt: skip
  return rows


def programs(point: Point) -> Table:
  """A row of each program: how fast it is."""
  rows: Table = [
    ('program', 'a second', 'median', '5 %', '95 %', 'slowest', 'interval',
     'spread', 'host', 'CPU', 'steps')
  ]  # fmt: skip
  for program in point['programs']:
    rows.append((
      program['name'],
      ', '.join(f'{_rate(n)} {unit}' for unit, n in program['rates'].items()),
      *(_time(program[n]) for n in ('median', 'p5', 'p95', 'slowest')),
      fmt.percent(program['interval']),
      fmt.percent(program['spread']),
      _time(program['host']),
      _time(program['processor']),
      fmt.count(program['steps']),
    ))  # fmt: skip
  return rows


def limits(point: Point) -> Table:
  """A row of each program: what it does, and what would be possible."""
  rows: Table = [
    ('program', 'model FLOP/s', 'of measured peak', 'of published peak',
     'memory traffic', 'a second', 'of memory rate', 'memory', 'at best',
     'bound', 'of it reached')
  ]  # fmt: skip
  for program in point['programs']:
    best = program.get('best') or {}
    rows.append((
      program['name'],
      fmt.rate(program.get('flops_rate'), ''),
      fmt.percent(program.get('of_measured_peak')),
      fmt.percent(program.get('of_published_peak')),
      fmt.rate(program.get('traffic'), 'B'),
      fmt.rate(program.get('traffic_rate'), 'B/s'),
      fmt.percent(program.get('of_memory_rate')),
      _bytes(program.get('memory')),
      _time(best.get('seconds')),
      best.get('bound', fmt.NOTHING),
      fmt.percent(best.get('ratio')),
    ))  # fmt: skip
  return rows


def costliest(point: Point) -> Table:
  """A row of each of the costliest operations of a train step."""
  rows: Table = [
    ('operation', 'a step', 'share', 'FLOP', 'bytes', 'of what is possible')
  ]
  for each in (point.get('trace') or {}).get('operations', ()):
    rows.append((
      each['name'],
      _time(each['seconds']),
      fmt.percent(each['share']),
      fmt.rate(each['flops'], ''),
      fmt.rate(each['bytes'], 'B'),
      fmt.percent(each['of_possible']),
    ))  # fmt: skip
  return rows


def notes(point: Point) -> list[str]:
  """Remarks that a reader of a point should know."""
  found = []
  for program in point['programs']:
    if not program['steady']:
      found.append(f'{program["name"]} was not steady when the time was over.')
    elif not program['precise']:
      found.append(
        f'{program["name"]}: the median is less precise than 1 % '
        f'({names.counted(program["steps"], "step")}).'
      )
    if not program['finite']:
      found.append(f'{program["name"]}: the loss was not finite in the end.')
  if trace := point.get('trace'):
    found.append(trace['note'])
  return found


def compiled(point: Point) -> str:
  """Compile time, and whether that is one."""
  kept = point['compile']['kept_from_before']
  seconds = fmt.duration(point['compile'].get('compile', 0.0))
  if not kept:
    return seconds
  return f'{seconds}, {kept} of {point["compile"]["programs"]} kept'


def _one(point: Point) -> list[str]:
  shown = [
    f'{speed.title(point)}: {names.counted(point["devices"], "device")}, '
    f'{names.counted(point["processes"], "process")}, '
    f'{point["batch_name"]} {fmt.count(point["batch"])}, '
    f'input from {point["input"]}',
    facts.system_line(point['system']),
    '',
    *fmt.columns(programs(point)),
    '',
    *fmt.columns(limits(point)),
  ]
  if len(costly := costliest(point)) > 1:
    shown += ['', *fmt.columns(costly)]
  shown += [
    '',
    f'built in {fmt.duration(point["compile"].get("build", 0.0))}, compiled in '
    f'{compiled(point)}; most memory allocated: {_bytes(point["allocated"])}',
    *(published_line(each) for each in point['published']),
    *notes(point),
    speed.NO_RESULT,
  ]
  return shown


def published_line(each: Mapping[str, Any]) -> str:
  """A published rate in words."""
  return (
    f'for context: {each["system"]}, {each["round"]}: '
    f'{_rate(each["each"])} samples/s an accelerator of {each["accelerators"]}'
  )


def page(
  points: Sequence[Point],
  before: Sequence[Sequence[Point]],
  changes: Sequence[Change],
  command: Sequence[str],
) -> str:
  """The page of points, beside those of earlier files, the oldest first."""
  measured = [point for point in points if not point['failed']]
  return (
    environment()
    .get_template('speed.html')
    .render(
      no_result=speed.NO_RESULT,
      system=measured[0]['system'] if measured else {},
      overview=overview(points),
      failed=[point for point in points if point['failed']],
      details=[
        (
          speed.title(point),
          {
            'Speed': programs(point),
            'What is possible': limits(point),
            'Costliest operations': costliest(point),
          },
          [*map(published_line, point['published']), *notes(point)],
        )
        for point in measured
      ],
      changes=changed(changes),
      history=history([*before, points]) if before else (),
      source=published.RATES_SOURCE,
      command=facts.command(command),
    )
  )


def history(files: Sequence[Sequence[Point]]) -> Table:
  """Samples a second of each point in each file, the oldest first."""
  named = [{speed.title(point): point for point in each} for each in files]
  titles = dict.fromkeys(title for each in named for title in each)
  head = [str(number + 1) for number in range(len(files) - 1)]
  rows: Table = [('benchmark', *head, 'now')]
  for title in titles:
    found = [speed.summary(each[title]) if title in each else None
             for each in named]  # fmt: skip
    rows.append(
      (title, *(_rate(one and one.samples_per_second) for one in found))
    )
  return rows


def _scales(points: Sequence[Point]) -> bool:
  """Says that points differ in their devices alone."""
  titles = {speed.title(point) for point in points}
  return len(titles) == 1 and len({p.get('devices') for p in points}) > 1


def _rate(value: float | None) -> str:
  if value is None:
    return fmt.NOTHING
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _time(seconds: float | None) -> str:
  """Seconds with three digits: '12.3 ms', '1.25 s', '45 us'."""
  if not fmt.is_finite(seconds):
    return fmt.NOTHING
  for factor, unit in ((1.0, 's'), (1e-3, 'ms')):
    if seconds >= factor:
      return f'{seconds / factor:.3g} {unit}'
  return f'{seconds / 1e-6:.3g} us'


def _bytes(number: float | None) -> str:
  if not number:
    return fmt.NOTHING
  for power, unit in ((30, 'GiB'), (20, 'MiB')):
    if number >= 2**power:
      return f'{number / 2**power:.3g} {unit}'
  return f'{number / 2**10:.3g} KiB'
