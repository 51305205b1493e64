"""The report as one HTML page that needs nothing but a browser."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import pathlib
import shlex

import jinja2
from markupsafe import Markup

from suite.report import figures
from suite.report import format as fmt
from suite.report import runs as runs_lib
from suite.report.runs import Run

_WIDE, _HALF, _PHONE = 1000, 480, 350  # widths that figures are drawn for
_PARTS = {  # in the order of the bars
  'startup': ('build', 'compile', 'warm-up', 'init', 'restore'),
  'timed': ('compute', 'input', 'eval', 'checkpoint'),
}
_PART_NAMES = {'input': 'waiting for input'}
_LAST = {'other': figures.STYLES, 'not accounted for': figures.STYLES + 1}
_SLACK = 0.005  # parts may miss their whole by this share before we say so


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure drawn twice, so that its text stays readable on a phone."""

  wide: Markup
  phone: Markup


@dataclasses.dataclass(frozen=True)
class Goal:
  """One bound of the target."""

  metric: str
  side: str  # at_least or at_most
  value: float

  @property
  def words(self) -> str:
    return f'{self.side.replace("_", " ")} {fmt.plain(self.value)}'

  @property
  def bound(self) -> figures.Bound:
    level = f'target {fmt.plain(self.value)}'
    return figures.Bound(self.value, level, self.side == 'at_least')


@dataclasses.dataclass(frozen=True)
class Curves:
  """How one metric grew, on the clock and by epochs."""

  metric: str
  clock: Picture
  progress: Picture


@dataclasses.dataclass(frozen=True)
class Entry:
  """A named fact about the runs."""

  name: str
  value: str
  varies: bool  # whether the runs disagree about it


@dataclasses.dataclass(frozen=True)
class Setting:
  """A hyperparameter."""

  name: str
  value: str
  reference: str
  key: str
  tunable: bool
  help: str
  changed: bool


@dataclasses.dataclass(frozen=True)
class Breakdown:
  """Where seconds went: a bar and a row of numbers for every run."""

  parts: tuple[tuple[str, int], ...]  # name and style
  rows: tuple[tuple[str, tuple[float | None, ...]], ...]  # total comes last
  picture: Picture
  notes: tuple[str, ...]


def render(results: Sequence[Mapping], score: Mapping) -> str:
  """The page for results (run_<i>.json) and their score (score.json)."""
  if not results:
    raise ValueError('A report needs at least one result; there is none.')
  runs = runs_lib.read(results, score)
  folder = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
  environment = jinja2.Environment(
    loader=folder,
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.globals.update(fmt=fmt)
  template = environment.get_template('template.html')
  return template.render(**_headline(runs, score), **_sections(runs, score))


def _headline(runs: Sequence[Run], score: Mapping) -> dict:
  first = runs[0].result
  goals = _goals(first)
  return {
    'score': {'reason': None, **score},
    'first': first,
    'runs': runs,
    'big': fmt.duration_parts(score['score_seconds']),
    'basis': _basis(score),
    'target': fmt.enumeration([f'{g.metric} {g.words}' for g in goals]),
    'goal': fmt.enumeration([f'{g.metric} is {g.words}' for g in goals]),
    'total': len(score['values']),
    'reached': _reached(score),
    'left_out': sorted(
      [value for value in score['values'] if value['dropped']],
      key=lambda value: value['dropped'],
    ),
    'absent': [
      f'run {value["run"]}'
      for value in score['values']
      if value['run'] not in {run.index for run in runs}
    ],
    'interval': _interval(score),
    'system_line': _system_line(first['system']),
    'times': _times(runs, score),
  }


def _sections(runs: Sequence[Run], score: Mapping) -> dict:
  first = runs[0].result
  return {
    'curves': _learning_curves(runs),
    'loss': _loss_curves(runs),
    'blind': [run for run in runs if not run.result['evals']],
    'broken': [run for run in runs if run.loss_curve().failed],
    'timed': _breakdown(runs, 'timed'),
    'startup': _breakdown(runs, 'startup'),
    'progress': runs_lib.progress_name(runs),
    'work': _work(first),
    'metrics': [goal.metric for goal in _goals(first)],
    'system': _entries(runs, 'system'),
    'versions': _entries(runs, 'versions'),
    'data': _entries(runs, 'data'),
    'settings': _settings(runs),
    'command': _command(score.get('command') or first['command']),
    'commands': [(run.label, _command(run.result['command'])) for run in runs],
  }


def _goals(result: Mapping) -> list[Goal]:
  return [
    Goal(metric, side, value)
    for metric, bounds in result['target'].items()
    for side, value in bounds.items()
  ]


def _reached(score: Mapping) -> int:
  return sum(fmt.is_finite(value['seconds']) for value in score['values'])


def _basis(score: Mapping) -> str:
  """The line under the score: what it is the mean of, or why there is none."""
  total, required = len(score['values']), score['required_runs']
  if fmt.is_finite(score['score_seconds']):
    kept = sum(value['dropped'] is None for value in score['values'])
    if kept == total:
      return f'mean of {kept} runs' if kept > 1 else 'one run'
    return f'mean of {kept} of {total} runs'
  if required and total < required:
    return f'A score needs {required} runs; so far there is {total}.'
  reached = _reached(score)
  if reached == total:
    return 'All runs reached the target; see the audit.'
  few = f'Only {reached}' if reached else 'None'
  return f'{few} of {total} runs reached the target, too few for a score.'


def _interval(score: Mapping) -> tuple[float, float] | None:
  bounds = score.get('interval')
  if not bounds or not all(fmt.is_finite(bound) for bound in bounds):
    return None
  return bounds[0], bounds[1]


def _system_line(system: Mapping) -> str:
  """The system in a few words."""
  words = []
  accelerator = system.get('accelerator')
  if accelerator and str(accelerator).lower() != 'cpu':
    words.append(f'{system.get("devices", 1)} \u00d7 {accelerator}')
  processor = system.get('processor') or system.get('cpu')
  if processor:
    words.append(str(processor))
  if system.get('cores'):
    words.append(f'{system["cores"]} cores')
  return ', '.join(words) or fmt.plain(accelerator)


def _work(result: Mapping) -> str:
  """What one step is, in samples and in arithmetic."""
  words = []
  if result['steps']:
    words.append(f'{fmt.count(result["samples"] / result["steps"])} samples')
  if fmt.is_finite(result.get('flops_per_step')):
    words.append(fmt.rate(result['flops_per_step'], 'FLOP'))
  return fmt.enumeration(words) if words else ''


def _picture(draw: Callable[..., Markup], name: str, wide: int) -> Picture:
  """Draws twice: draw(name, width=...)."""
  return Picture(
    draw(f'{name}-wide', width=wide), draw(f'{name}-phone', width=_PHONE)
  )


def _times(runs: Sequence[Run], score: Mapping) -> Picture | None:
  """All times on one axis; nothing to see with fewer than two."""
  lines = [
    run.line([(run.seconds, 0.0)]) for run in runs if run.seconds is not None
  ]
  if len(lines) < 2:
    return None
  mean = score['score_seconds']

  def draw(name: str, width: int) -> Markup:
    return figures.times(
      name,
      lines,
      mean=mean if fmt.is_finite(mean) else None,
      interval=_interval(score),
      width=width,
    )

  return _picture(draw, 'times', _WIDE)


def _learning_curves(runs: Sequence[Run]) -> list[Curves]:
  """The curves of every metric that the target names."""
  evals = [item for run in runs for item in run.result['evals']]
  if not evals:
    return []
  unit, size = figures.time_unit(max(item['seconds'] for item in evals))
  progress = runs_lib.progress_name(runs)
  found = []
  for number, goal in enumerate(_goals(runs[0].result)):
    name, bound = goal.metric, goal.bound
    clock = [run.curve(name, over_seconds=True, unit=size) for run in runs]
    epochs = [run.curve(name, over_seconds=False) for run in runs]
    x_label = f'{unit} on the clock'
    found.append(
      Curves(
        name,
        _curves(f'clock-{number}', clock, name, x_label, _WIDE, bound),
        _curves(f'progress-{number}', epochs, name, progress, _HALF, bound),
      )
    )
  return found


def _loss_curves(runs: Sequence[Run]) -> Picture | None:
  lines = [run.loss_curve() for run in runs]
  values = [y for line in lines for _, y in line.points]
  if not values:
    return None
  steep = min(values) > 0 and max(values) > 30 * min(values)
  return _curves('loss', lines, 'training loss', 'steps', _HALF, None, steep)


def _curves(
  name: str,
  lines: Sequence[figures.Line],
  y_label: str,
  x_label: str,
  wide: int,
  bound: figures.Bound | None,
  logarithmic: bool = False,
) -> Picture:
  ends = [
    f'{line.label} ends at {fmt.quality(line.points[-1][1])} '
    f'after {fmt.count(round(line.points[-1][0], 1))} {x_label}'
    for line in lines
    if line.points
  ]
  ends = [bound.words, *ends] if bound else ends
  scale = ', logarithmic' if logarithmic else ''

  def draw(name: str, width: int) -> Markup:
    return figures.curves(
      name,
      lines,
      width=width,
      height=420 if width == _WIDE else 330,
      title=f'{y_label} over {x_label}',
      description='; '.join(ends) + '.',
      x_label=x_label,
      y_label=y_label + scale,
      bound=bound,
      logarithmic=logarithmic,
      marks=bound is not None,
    )

  return _picture(draw, name, wide)


def _breakdown(runs: Sequence[Run], phase: str) -> Breakdown:
  """Where the seconds of a phase ('startup' or 'timed') went, per run."""
  spent = {run.label: _spent(run.result[phase]) for run in runs}
  names = _part_order(_PARTS[phase], spent.values())
  styles = {
    name: _LAST.get(name, number % figures.STYLES)
    for number, name in enumerate(names)
  }
  bars, rows, notes = [], [], []
  for run in runs:
    parts = spent[run.label]
    whole = run.result[phase]['seconds']
    drawn = tuple(
      figures.Part(_part_name(name), parts[name], styles[name])
      for name in names
      if name in parts
    )
    bars.append(figures.Bar(run.label, drawn, whole))
    numbers = tuple(parts.get(name) for name in names)
    rows.append((run.label, (*numbers, whole)))
    excess = sum(parts.values()) - whole
    if excess > _slack(whole):
      notes.append(
        f'The parts of {run.label} are {fmt.duration(excess)} longer than '
        'their whole.'
      )
  if len(rows) > 1:
    rows.append(('mean', _column_means([numbers for _, numbers in rows])))
  return Breakdown(
    parts=tuple((_part_name(name), styles[name]) for name in names),
    rows=tuple(rows),
    picture=_bars(phase, bars),
    notes=tuple(notes),
  )


def _spent(phase: Mapping) -> dict[str, float]:
  """Seconds by part; what the parts leave unexplained is a part as well."""
  parts = {
    name: float(seconds)
    for name, seconds in phase['parts'].items()
    if fmt.is_finite(seconds)
  }
  missing = phase['seconds'] - sum(parts.values())
  if missing > _slack(phase['seconds']):
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


def _part_name(name: str) -> str:
  return _PART_NAMES.get(name, name)


def _column_means(
  rows: Sequence[tuple[float | None, ...]],
) -> tuple[float, ...]:
  return tuple(
    sum(value or 0.0 for value in column) / len(rows)
    for column in zip(*rows, strict=True)
  )


def _bars(phase: str, rows: Sequence[figures.Bar]) -> Picture:
  when = 'on the clock' if phase == 'timed' else 'before the clock'

  def words(row: figures.Bar) -> str:
    parts = [f'{part.name} {fmt.duration(part.seconds)}' for part in row.parts]
    return f'{row.label}: {", ".join(parts)}'

  def draw(name: str, width: int) -> Markup:
    return figures.bars(
      name,
      rows,
      width=width,
      title=f'Where the time {when} went, run by run',
      description='; '.join(words(row) for row in rows) + '.',
    )

  return _picture(draw, phase, _WIDE)


def _entries(runs: Sequence[Run], section: str) -> list[Entry]:
  """A section of the results, each fact once unless the runs disagree."""
  facts = [run.result[section] for run in runs]
  found = []
  for name in dict.fromkeys(name for fact in facts for name in fact):
    texts = [fmt.plain(fact.get(name)) for fact in facts]
    value, varies = _agreed(runs, texts)
    words = _spelled(name)
    found.append(Entry(words, value, varies))
  return found


def _spelled(name: str) -> str:
  """A JSON name in words: memory_gb -> memory (GB)."""
  for unit in ('GB', 'GiB'):
    name = name.replace(f'_{unit.lower()}', f' ({unit})')
  return name.replace('_', ' ')


def _agreed(runs: Sequence[Run], texts: Sequence[str]) -> tuple[str, bool]:
  """The one text, or every text with the runs that it holds for."""
  groups: dict[str, list[str]] = {}
  for run, text in zip(runs, texts, strict=True):
    groups.setdefault(text, []).append(run.label)
  if len(groups) == 1:
    return texts[0], False
  return '; '.join(f'{t} ({", ".join(r)})' for t, r in groups.items()), True


def _settings(runs: Sequence[Run]) -> list[Setting]:
  """All hyperparameters, those that differ from the reference first."""
  all_of = [run.result['hyperparameters'] for run in runs]
  found = []
  for name in dict.fromkeys(name for settings in all_of for name in settings):
    held = [settings[name] for settings in all_of if name in settings]
    first = held[0]
    changed = any(item['value'] != item['reference'] for item in held)
    texts = [
      fmt.plain(settings[name]['value']) if name in settings else fmt.NOTHING
      for settings in all_of
    ]
    found.append(
      Setting(
        name=name,
        value=_agreed(runs, texts)[0],
        reference=fmt.plain(first['reference']),
        key=fmt.plain(first.get('key')),
        tunable=bool(first.get('tunable')),
        help=str(first.get('help') or ''),
        changed=changed,
      )
    )
  return sorted(found, key=lambda setting: not setting.changed)


def _command(words: Sequence[object]) -> str:
  return shlex.join(str(word) for word in words)
