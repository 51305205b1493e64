"""Reports of compiled programs as tables, for a terminal and for Markdown."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from launch.aot import analysis, roofline, systems
from suite.results.report import format as text

Report = Mapping[str, Any]
STEP = 'train_step'
# Below this share of the first system's speed per chip a sweep says so.
POOR = 0.5


@dataclasses.dataclass(frozen=True)
class Step:
  """Figures of one train step at best, from a report.

  Pairs are (if everything overlaps, if nothing does).
  """

  roofline: roofline.Roofline  # seconds
  samples: int  # a step's, on all chips
  chips: int  # of the system
  mfu: tuple[float, float]  # model FLOPs utilization

  @property
  def rates(self) -> tuple[float, float]:
    """Samples a second on all chips."""
    seconds = self.roofline.overlapped, self.roofline.serial
    return self.samples / seconds[0], self.samples / seconds[1]


def step_of(report: Report) -> Step | None:
  """The train step's figures; None if it was not asked for or fails."""
  program = report.get('programs', {}).get(STEP)
  if not program or not program['compiles']:
    return None
  roof = roofline.Roofline(**program['roofline'])
  system = systems.get(report['system']['name'])
  asked = sum(program['model_operations'].values())
  mfu = (
    roofline.model_utilization(asked, seconds, system)
    for seconds in (roof.overlapped, roof.serial)
  )
  return Step(roof, report['batch'], system.chips, tuple(mfu))


def fits(report: Report) -> bool:
  """Checks that every program compiles and fits into memory."""
  return bool(report.get('programs')) and all(
    program['compiles'] and program['memory']['fits']
    for program in report['programs'].values()
  )


def one(report: Report) -> str:
  """Everything about one system."""
  if 'refused' in report:
    return f'{report["name"]}: {report["refused"]}'
  header = ('program', 'compiles', 'peak memory', 'state and batch',
            'temporaries', 'model FLOP', 'compiled FLOP', 'waste',
            'memory traffic', 'network', 'bound')  # fmt: skip
  devices = report['system']['devices']
  rows = [_program(*each, devices) for each in report['programs'].items()]
  parts = [_heading(report), table(header, rows)]
  for name, program in report['programs'].items():
    if program.get('collectives'):
      parts.append(f'Collectives of {name}:\n\n{_collectives(program)}')
  if step := step_of(report):
    parts.append(_step(step))
  return '\n\n'.join(parts)


def sweep(reports: Sequence[Report]) -> str:
  """One row a system, each against the first of its kind that compiles."""
  header = ('system', 'chips', 'batch', 'a chip', 'memory', 'compute',
            'memory time', 'network', 'bound', 'step', 'samples/s',
            'efficiency', 'notes')  # fmt: skip
  return table(header, [_row(r, _first(reports, r)) for r in reports])


def breaking_point(reports: Sequence[Report]) -> str:
  """Sentence on where scaling breaks; '' for systems of several kinds."""
  kinds = {_name(report).partition('-')[0] for report in reports}
  if len(kinds) > 1:
    return ''
  for report in reports:
    notes = _notes(report, step_of(report), _first(reports, report))
    if notes:
      return f'Scaling breaks at {_name(report)}: {"; ".join(notes)}.'
  return 'Scaling breaks nowhere in this sweep.'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table whose columns stand under each other."""
  lines = [list(header), *(list(row) for row in rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  lines.insert(1, ['-' * width for width in widths])
  return '\n'.join(
    f'| {" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |'
    for line in lines
  )


def bytes_text(number: float) -> str:
  """'97.5 MiB', '1.20 GiB'."""
  for power, unit in ((30, 'GiB'), (20, 'MiB'), (10, 'KiB')):
    if number >= 2**power:
      return f'{number / 2**power:.3g} {unit}'
  return f'{number:.0f} B'


def time_text(seconds: float) -> str:
  """'1.2 s', '35.1 ms', '12.5 us', '0' for next to nothing."""
  for factor, unit in ((1, 's'), (1e-3, 'ms'), (1e-6, 'us')):
    if seconds >= factor:
      return f'{seconds / factor:.3g} {unit}'
  return f'{seconds / 1e-6:.2g} us' if seconds >= 1e-8 else '0'


def _heading(report: Report) -> str:
  system = report['system']
  mesh = ' x '.join(f'{axis} {size}' for axis, size in report['mesh'].items())
  return (
    f'{system["name"]}: {system["chips"]} chips, {system["shape"]}; '
    f'mesh {mesh}; '
    f'batch {report["batch"]:,}, of evals {report["eval_batch"]:,}; '
    + ', '.join(f'{k} {v}' for k, v in report['versions'].items())
  )


def _program(name: str, program: Report, devices: int) -> list[str]:
  memory = program.get('memory')
  peak = text.NOTHING
  if memory:
    peak = _of(memory) + ('' if memory['fits'] else ', does not fit')
  if not program['compiles']:
    return [name, f'no: {_fault(program)}', peak, *[text.NOTHING] * 8]
  asked = sum(program['model_operations'].values())
  done = sum(program['operations'].values()) * devices
  how = 'known from before' if program['cached'] else 'compiled'
  roof = roofline.Roofline(**program['roofline'])
  return [
    name,
    f'yes ({how}, {text.duration(program["seconds"])})',
    peak,
    bytes_text(memory['arguments'] + memory['outputs'] - memory['aliased']),
    bytes_text(memory['temporaries']),
    ('' if program['model_operations_certain'] else 'at least ')
    + text.rate(asked, 'FLOP'),
    text.rate(done, 'FLOP'),
    f'{(done / asked - 1) * 100:+.1f} %' if asked else text.NOTHING,
    bytes_text(program['traffic']),
    bytes_text(sum(c['bytes'] for c in program['collectives'])),
    roof.bound if roof.overlapped else text.NOTHING,
  ]


def _collectives(program: Report) -> str:
  header = ('collective', 'over', 'crosses', 'group', 'times', 'bytes', 'time')
  return table(
    header,
    [
      [
        row['kind'],
        row['axis'],
        row['crosses'] or 'nothing',
        str(row['group']),
        str(row['times']) + ('' if row['certain'] else ' or more'),
        bytes_text(row['bytes']),
        time_text(row['seconds']),
      ]
      for row in program['collectives']
    ],
  )


def _step(step: Step) -> str:
  roof = step.roofline
  fast, slow = step.rates
  return (
    f'A train step at best: compute {time_text(roof.compute)}, memory '
    f'{time_text(roof.memory)}, network {time_text(roof.network)}. '
    f'Bound by {roof.bound}: {time_text(roof.overlapped)} if all overlap, '
    f'{time_text(roof.serial)} if nothing does; MFU '
    f'{" and ".join(map(text.percent, step.mfu))}; '
    f'{fast:,.0f} and {slow:,.0f} samples a second, '
    f'{fast / step.chips:,.0f} and {slow / step.chips:,.0f} a chip.'
  )


def _row(report: Report, first: Step | None) -> list[str]:
  step = step_of(report)
  notes = '; '.join(_notes(report, step, first))
  if not step:
    return [_name(report), *[text.NOTHING] * 11, notes]
  roof, memory = step.roofline, report['programs'][STEP]['memory']
  return [
    _name(report),
    str(step.chips),
    f'{step.samples:,}',
    text.count(step.samples / step.chips),
    f'{analysis.gib(memory["peak"])} GiB',
    time_text(roof.compute),
    time_text(roof.memory),
    time_text(roof.network),
    roof.bound,
    f'{time_text(roof.overlapped)} to {time_text(roof.serial)}',
    ' to '.join(f'{rate:,.0f}' for rate in step.rates),
    ' to '.join(map(text.percent, _efficiencies(step, first))),
    notes,
  ]


def _first(reports: Sequence[Report], report: Report) -> Step | None:
  """The first train step of a system of the same kind."""
  kind = _name(report).partition('-')[0]
  alike = (r for r in reports if _name(r).partition('-')[0] == kind)
  return next((step for step in map(step_of, alike) if step), None)


def _name(report: Report) -> str:
  return report['name'] if 'refused' in report else report['system']['name']


def _efficiencies(step: Step, first: Step) -> list[float]:
  """Speed per chip against the first's, with all overlap and with none."""
  return [
    rate / step.chips / (other / first.chips)
    for rate, other in zip(step.rates, first.rates, strict=True)
  ]


def _notes(report: Report, step: Step | None, first: Step | None) -> list[str]:
  """Problems with the system; empty if there are none."""
  if 'refused' in report:
    return [report['refused'].rstrip('.')]
  notes = [
    f'{name} {_fault(program)}'
    for name, program in report['programs'].items()
    if not (program['compiles'] and program['memory']['fits'])
  ]
  if step and first:
    if step.roofline.bound == 'network':
      notes.append('the network bounds the step')
    if min(_efficiencies(step, first)) < POOR:
      notes.append(f'less than {POOR:.0%} efficient without overlap')
  return notes


def _fault(program: Report) -> str:
  memory = program.get('memory')
  if memory:
    return f'does not fit: needs {_of(memory)}'
  return f'does not compile: {program["why_not"]}'


def _of(memory: Report) -> str:
  """'9.77 of 16.00 GiB'."""
  peak, capacity = memory['peak'], memory['capacity']
  return f'{analysis.gib(peak)} of {analysis.gib(capacity)} GiB'
