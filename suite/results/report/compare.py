"""Page for several sets of runs: systems side by side, and their history.

Sets of one benchmark, size, division and target stand together; nothing else
is compared. Sets of one system, in the order of their start, are its history.
"""

from collections.abc import Sequence
import dataclasses
import datetime
import json
import string

from markupsafe import Markup

from suite import hparams
from suite.results import published, records
from suite.results.records import RunRecord, Score
from suite.results.report import (
  facts,
  figures,
  pictures,
  tables,
)
from suite.results.report import format as fmt
from suite.results.report import rows as rows_lib
from suite.results.report import runs as runs_lib
from suite.results.report.bars import Bar
from suite.results.report.page import Report, environment

# Facts of the system that may differ between sets of one history.
_VARYING = ('xla_flags', 'host')
_MOST_CURVES = figures.STYLES


@dataclasses.dataclass(frozen=True)
class Set:
  """A set of runs, under the name that the page has for it."""

  name: str
  results: Sequence[RunRecord]
  score: Score
  letter: str = ''
  style: int = 0

  @property
  def first(self) -> RunRecord:
    return min(self.results, key=lambda result: result.run)

  @property
  def label(self) -> str:
    return f'{self.letter} {self.name}' if self.letter else self.name

  @property
  def started(self) -> str:
    return min(str(result.started) for result in self.results)

  @property
  def date(self) -> str:
    return _date(self.started)

  @property
  def seconds(self) -> float | None:
    return self.score.score_seconds

  @property
  def times(self) -> list[float]:
    return [
      value.seconds for value in self.score.values if value.seconds is not None
    ]

  @property
  def system(self) -> str:
    """Key that is equal for sets of one system."""
    kept = {n: v for n, v in self.first.system.items() if n not in _VARYING}
    return json.dumps(kept, sort_keys=True, default=str)


@dataclasses.dataclass(frozen=True)
class History:
  """Sets of one system in the order of their start."""

  system: str
  picture: Markup
  rows: Sequence[tuple[Set, str, str]]  # set, change of time, what is new


@dataclasses.dataclass(frozen=True)
class Group:
  """Sets that can be compared."""

  key: str  # for the ids of its figures
  sets: Sequence[Set]  # the fastest first, those without a score last
  target: str
  times: Markup
  curves: Sequence[pictures.Curves]
  band: figures.Band | None
  units: tuple[str, str]  # what training is counted in, one and several
  timed: pictures.Breakdown
  histories: Sequence[History]
  published: published.Context | None
  without_curve: Sequence[Set]


def build(sets: Sequence[Set]) -> Report:
  """The page for several sets, with every figure and number."""
  if not sets:
    raise ValueError('A comparison needs at least one set; there is none.')
  alike: dict[str, list[Set]] = {}
  for each in sets:
    key = json.dumps(records.plain(each.first.kind), sort_keys=True)
    alike.setdefault(key, []).append(each)
  groups = [
    _group(f'g{number}', members)
    for number, members in enumerate(alike.values())
  ]
  template = environment().get_template('compare.html')
  systems = len({each.system for each in sets})
  return Report(
    html=template.render(groups=groups, sets=sets, systems=systems),
    figures=_figures(groups),
    tables=_tables(groups),
  )


def _group(key: str, members: Sequence[Set]) -> Group:
  ordered = sorted(members, key=lambda e: (e.seconds is None, e.seconds or 0))
  letters = string.ascii_uppercase
  ordered = [
    dataclasses.replace(
      each,
      letter=letters[i % 26] + (str(i // 26) if i >= 26 else ''),
      style=i % figures.STYLES,
    )
    for i, each in enumerate(ordered)
  ]
  first = ordered[0].first
  drawn = [
    (each, run) for each in ordered[:_MOST_CURVES] if (run := _typical(each))
  ]
  # The band of the first that has one: sets may differ in batch size.
  banded = next((e.score for e in ordered if e.score.convergence), None)
  same = len({_batch(each) for each in ordered}) == 1
  return Group(
    key=key,
    sets=ordered,
    target=pictures.until(first),
    times=_rows(f'{key}-times', ordered, 'Time to quality of every set'),
    curves=pictures.learning_curves(
      [run for _, run in drawn], banded if same else None, f'{key}-'
    ),
    band=pictures.reference_band(banded) if same and banded else None,
    units=_units(ordered),
    timed=pictures.breakdown(
      [_spending(each) for each in ordered],
      'timed',
      name=f'{key}-timed',
      mean=False,
    ),
    histories=_histories(key, ordered),
    published=published.near(first),
    without_curve=[e for e in ordered if e not in [s for s, _ in drawn]],
  )


def _units(sets: Sequence[Set]) -> tuple[str, str]:
  names = {e.score.split.unit if e.score.split else None for e in sets}
  return fmt.units(names.pop() if len(names) == 1 else None)


def _typical(each: Set) -> runs_lib.Run | None:
  """The run with the median time of those that met the target."""
  runs = [
    run
    for run in runs_lib.read(each.results, each.score)
    if run.reached and run.result.evals
  ]
  if not runs:
    return None
  runs.sort(key=lambda run: run.seconds)
  return dataclasses.replace(
    runs[(len(runs) - 1) // 2],
    name=each.letter,
    style=each.style,
    standing='counts',
  )


def _batch(each: Set) -> str:
  setting = hparams.batch_in(each.first.hyperparameters)
  return str(setting and setting.value)


def _spending(each: Set) -> Bar:
  """The mean run of a set."""
  phases = [result.timed for result in each.results]
  parts: dict[str, float] = {}
  for phase in phases:
    for name, seconds in phase.parts.items():
      parts[name] = parts.get(name, 0.0) + seconds / len(phases)
  whole = sum(phase.seconds for phase in phases) / len(phases)
  return Bar(each.letter, parts, whole)


def _rows(
  name: str, sets: Sequence[Set], title: str, *, dates: bool = False
) -> Markup:
  drawn = [
    rows_lib.Row(
      f'{each.letter} {each.date}' if dates else each.label,
      each.seconds,
      each.score.interval,
      tuple(each.times),
      each.style,
    )
    for each in sets
  ]
  return rows_lib.rows(
    name, drawn, width=pictures.WIDE, title=title, from_zero=not dates
  )


def _histories(key: str, sets: Sequence[Set]) -> list[History]:
  systems: dict[str, list[Set]] = {}
  for each in sets:
    systems.setdefault(each.system, []).append(each)
  found = []
  for members in systems.values():
    if len(members) < 2:
      continue
    members.sort(key=lambda each: each.started)
    befores = [None, *members[:-1]]
    found.append(
      History(
        system=facts.system_line(members[0].first.system),
        picture=_rows(
          f'{key}-history-{len(found)}',
          members,
          'Time to quality of one system, the oldest set first',
          dates=True,
        ),
        rows=[
          (each, _change(before, each), _news(before, each))
          for before, each in zip(befores, members, strict=True)
        ],
      )
    )
  return found


def _change(before: Set | None, after: Set) -> str:
  """Change of a set's time from the one before, and whether it is chance."""
  if before is None or before.seconds is None or after.seconds is None:
    return fmt.NOTHING
  change = f'{100 * (after.seconds / before.seconds - 1):+.1f} %'
  ours, theirs = (e.score.interval for e in (after, before))
  if ours and theirs and ours[0] <= theirs[1] and theirs[0] <= ours[1]:
    return f'{change}, within the intervals'
  return change


def _news(before: Set | None, after: Set) -> str:
  """Facts that are known to differ from the set before."""
  if before is None:
    return 'the first'
  news = []
  for section in ('versions', 'system', 'data'):
    old, new = (facts.section(e.first, section) for e in (before, after))
    for name in dict.fromkeys([*old, *new]):
      if old.get(name) != new.get(name):
        change = f'{fmt.plain(old.get(name))} \u2192 {fmt.plain(new.get(name))}'
        news.append(f'{name.replace("_", " ")} {fmt.shorten(change, 80)}')
  old, new = (e.first.hyperparameters for e in (before, after))
  for name in dict.fromkeys([*old, *new]):
    was, now = (h[name].value if name in h else None for h in (old, new))
    if was != now:
      news.append(f'{name} {fmt.plain(was)} \u2192 {fmt.plain(now)}')
  return '; '.join(news) or 'nothing that was recorded'


def _date(text: str) -> str:
  try:
    time = datetime.datetime.fromisoformat(text)
  except ValueError:
    return fmt.shorten(text, 16)
  return f'{time:%Y-%m-%d}'


def _figures(groups: Sequence[Group]) -> dict[str, Markup]:
  drawn: dict[str, Markup] = {}
  for group in groups:
    first = group.sets[0].first
    name = fmt.slug(f'{first.benchmark} {first.size}')
    name = name if len(groups) == 1 else f'{name}-{group.key}'
    drawn[f'{name}-times'] = group.times
    drawn[f'{name}-timed'] = group.timed.picture
    for curve in group.curves:
      drawn[f'{name}-clock-{fmt.slug(curve.metric)}'] = curve.clock
      drawn[f'{name}-progress-{fmt.slug(curve.metric)}'] = curve.progress
    for number, history in enumerate(group.histories):
      drawn[f'{name}-history-{number}'] = history.picture
  return drawn


def _tables(groups: Sequence[Group]) -> dict[str, list[dict]]:
  sets = [(group, each) for group in groups for each in group.sets]
  found = {
    'sets': [
      {'letter': each.letter, 'set': each.name, 'started': each.started,
       'system': facts.system_line(each.first.system),
       **tables.score_row(each.score)}
      for _, each in sets
    ],
    'runs': [
      {'set': each.name, 'run': value.run, 'seconds': value.seconds,
       'left_out': value.dropped}
      for _, each in sets for value in each.score.values
    ],
    'time': [
      {'set': each.name, 'part': part, 'seconds': seconds}
      for _, each in sets for part, seconds in _spending(each).parts.items()
    ],
    'history': [
      {'system': history.system, 'set': each.name, 'started': each.started,
       'seconds': each.seconds, 'change': change, 'news': news}
      for group in groups for history in group.histories
      for each, change, news in history.rows
    ],
    'evals': [
      row for _, each in sets for row in _evals(each)
    ],
  }  # fmt: skip
  return {name: rows for name, rows in found.items() if rows}


def _evals(each: Set) -> list[dict]:
  """The curve that is shown for a set."""
  run = _typical(each)
  return [
    {'set': each.name, 'run': run.index, **item.at,
     'seconds': item.seconds, **item.quality}
    for item in (run.result.evals if run else [])
  ]  # fmt: skip
