"""Holds a log to an official ruleset, file by file, as the rules mean it."""

import ast
import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from suite.files import is_number
from suite.results.audit.findings import show
from suite.results.audit.official import bounds, expressions, rules, words
from suite.results.audit.official.rules import Check, File, Rule
from suite.results.audit.record import Record, same
from suite.target import Target

ACCURACY = 'eval_accuracy'
_AGGREGATED = 'aggregated_eval_accuracy'
_MAX_FILES = 8  # a log leads from one to the next; no ruleset has more than 4


@dataclasses.dataclass(frozen=True)
class Fault:
  """A violation of a rule, without the name of the log."""

  line: int | None
  key: str
  text: str  # 'expected ..., got ...'
  rule: str
  error: bool = True


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Result of checking a log against a ruleset."""

  ruleset: str
  files: tuple[str, ...]  # those that the log was held to
  faults: Sequence[Fault]
  once: frozenset[str]  # the keys that these files want exactly once
  asked: frozenset[str]  # the keys that they want at all
  met: Mapping[int, bool]  # line of an eval -> whether it meets the target
  target: Target | None  # of the Closed division, as far as it is plain
  goal: str | None  # the target in words
  asks: Target | None  # bounds on quality of the files themselves, in Open too


def check(
  records: Sequence[Record], ruleset: str, benchmark: str | None = None
) -> Verdict:
  """Applies the files of a ruleset to the records of a log, in their order."""
  pass_ = _Pass(records)
  queue = [f'training_{ruleset}/common.yaml']
  files = []
  while queue and len(files) < _MAX_FILES:
    name = queue.pop(0)
    file = rules.load(name)
    if file is None:
      pass_.missing_file(name, ruleset)
      continue
    files.append(file)
    queue += pass_.apply(file)
  return Verdict(
    ruleset=ruleset,
    files=tuple(file.name for file in files),
    faults=pass_.faults(),
    once=_keys(files, ('EXACTLY_ONE',)),
    asked=_keys(files, ('EXACTLY_ONE', 'AT_LEAST_ONE')),
    met=pass_.met,
    target=_target(f'training_{ruleset}/closed_{benchmark}.yaml'),
    goal=pass_.goal,
    asks=next((found for f in files if (found := _target(f.name))), None),
  )


def tensors(ruleset: str, benchmark: str) -> list[str]:
  """Tensors whose initialisation a Closed log of a ruleset has to name."""
  file = rules.load(f'training_{ruleset}/closed_{benchmark}.yaml')
  checks = file.end if file else ()
  return [name for each in checks for name in bounds.listed(each.tree)]


def asked(ruleset: str, names: Sequence[str]) -> frozenset[str]:
  """The keys that some files of a ruleset want, OR-groups aside."""
  files = [rules.load(f'training_{ruleset}/{name}') for name in names]
  return _keys([f for f in files if f], ('EXACTLY_ONE', 'AT_LEAST_ONE'))


def _holds(
  test: expressions.Test, state: dict[str, Any], line: dict[str, Any]
) -> bool:
  try:
    return bool(test(state, line))
  except expressions.FAULTS:
    return False


@functools.lru_cache(maxsize=1024)  # names come from logs
def _target(name: str) -> Target | None:
  file = rules.load(name)
  return bounds.target(file) if file else None


@functools.cache
def _goal(tree: ast.expr) -> str:
  return words.condition(tree, ACCURACY, {})


def _keys(files: Sequence[File], kinds: Sequence[str]) -> frozenset[str]:
  return frozenset(
    rule.key
    for file in files
    for rule in file.rules.values()
    if rule.required in kinds
  )


class _Pass:
  """Collects faults over the files that a log is held to."""

  def __init__(self, records: Sequence[Record]):
    self._records = records
    self._of_key: dict[str, list[Record]] = collections.defaultdict(list)
    for record in records:
      self._of_key[record.key].append(record)
    self._by_key: dict[str, list[Fault]] = {}
    self._others: list[Fault] = []
    self.met: dict[int, bool] = {}
    self.goal: str | None = None

  def faults(self) -> list[Fault]:
    """All of them, without repeats."""
    found = [fault for faults in self._by_key.values() for fault in faults]
    return list(dict.fromkeys([*found, *self._others]))

  def missing_file(self, name: str, ruleset: str) -> None:
    """Some rulesets accept a benchmark and have no rules for it."""
    text = f'ruleset {ruleset} has no {name.partition("/")[2]}: what it would'
    text += ' ask was not checked'
    self._others.append(Fault(None, '', text, name, error=False))

  def apply(self, file: File) -> list[str]:
    """Holds the records to one file; returns the files that it leads to."""
    # A later file that has a rule for a key replaces what earlier ones said.
    for key in file.rules:
      self._by_key.pop(key, None)
    for unknown in file.unknown:
      text = f'could not check a rule: {unknown}'
      self._others.append(Fault(None, '', text, file.name, error=False))
    queue: list[str] = []
    state: dict[str, Any] = {}
    expressions.run(file.begin, expressions.Scope(state))
    records, of_key = self._records, self._of_key
    if file.aggregates_by:
      joined = list(self._aggregated(file, records))
      records, of_key = [*records, *joined], {**of_key, _AGGREGATED: joined}
    self._lines(file, records, expressions.Scope(state, queue.append))
    self._counts(file, of_key)
    for check_ in file.end:
      self._end(file, check_, state)
    return queue

  def _lines(
    self, file: File, records: Sequence[Record], scope: expressions.Scope
  ) -> None:
    done: set[str] = set()
    seen: set[str] = set()
    reached: dict[str, bool] = {}
    state = scope.state
    for record in self._active(file, records):
      rule = file.rules[record.key]
      line = {'value': record.value, 'metadata': record.metadata}
      if not (rule.test and _holds(rule.test, state, line)):
        scope.move_to(record)
        if rule.key not in done:
          self._line(rule, rule.checks, scope)
          self._post(rule, scope)
        if rule.first_checks and rule.key not in seen:
          self._line(rule, rule.first_checks, scope)
        seen.add(rule.key)
      if rule.reached:
        met = _holds(rule.reached, state, line)
        if not met:
          scope.move_to(record)
          met = self._meets(rule, scope)
        reached[rule.key] = met or reached.get(rule.key, False)
        if rule.key in (ACCURACY, _AGGREGATED):
          self.met[record.line] = met
      if 'submission_' in rule.key:
        done.add(rule.key)
    for key, met in reached.items():
      if not met:
        self._never(file.rules[key], records, scope.state)

  def _active(self, file: File, records: Sequence[Record]) -> Sequence[Record]:
    """The records that a file has rules for, in their order."""
    found = [key for key in self._of_key if key in file.active]
    if len(found) == 1 and records is self._records:
      return self._of_key[found[0]]
    return [record for record in records if record.key in file.active]

  def _line(self, rule: Rule, checks: Sequence[Check], scope) -> None:
    for check_ in checks:
      record = scope.record
      try:
        holds = expressions.value(check_.tree, scope)
      except expressions.FaultError:
        holds = False
      if not holds:
        asks = words.condition(check_.tree, rule.key, scope.state)
        self._add(rule, record, f'expected {asks}, got {_came(record)}')

  def _post(self, rule: Rule, scope) -> None:
    try:
      expressions.run(rule.post, scope)
    except expressions.FaultError:
      text = f'expected a value of {rule.key} that the rules can use'
      self._add(rule, scope.record, f'{text}, got {show(scope.record.value)}')

  def _meets(self, rule: Rule, scope) -> bool:
    try:
      return bool(expressions.value(rule.at_least_one.tree, scope))
    except expressions.FaultError:
      record = scope.record
      text = f'expected a number as {rule.key}, got {show(record.value)}'
      self._others.append(Fault(record.line, rule.key, text, rule.name))
      return False

  def _never(self, rule: Rule, records, state) -> None:
    asks = words.condition(rule.at_least_one.tree, rule.key, state)
    last = [record for record in records if record.key == rule.key][-1]
    text = f'expected {asks} at least once, got {_came(last)} at last'
    self._others.append(Fault(last.line, rule.key, text, rule.name))

  def _counts(self, file: File, counts: Mapping[str, Sequence[Record]]) -> None:
    told: set[frozenset[str]] = set()
    for rule in file.rules.values():
      required = rule.required or ''
      if rule.at_least_one and rule.key in (ACCURACY, _AGGREGATED):
        self.goal = _goal(rule.at_least_one.tree)
      if required.startswith('AT_LEAST_ONE_OR('):
        others = required[len('AT_LEAST_ONE_OR(') : -1].split(',')
        group = frozenset({rule.key, *(other.strip() for other in others)})
        if group not in told and not any(counts.get(key) for key in group):
          text = f'expected {" or ".join(sorted(group))}, got none'
          self._others.append(Fault(None, rule.key, text, rule.name))
        told.add(group)
      else:
        self._count(rule, required, counts.get(rule.key, []))

  def _count(self, rule: Rule, required: str, got: Sequence[Record]) -> None:
    least = {'EXACTLY_ONE': 1, 'AT_LEAST_ONE': 1}.get(required, 0)
    if required.startswith('AT_LEAST('):
      least = int(required[len('AT_LEAST(') : -1])
    if not got and least:
      text = f'expected {rule.key}, got none'
      self._add(rule, None, text)
    elif len(got) < least:
      text = f'expected {rule.key} at least {least} times, got {len(got)}'
      self._add(rule, got[-1], text)
    elif required == 'EXACTLY_ONE' and len(got) > 1:
      other = next((r for r in got if not same(r.value, got[0].value)), None)
      text = f'expected {rule.key} once, got several'
      if other:
        text += f' values: {show(got[0].value)}, {show(other.value)}'
      self._add(rule, other or got[1], text, error=bool(other))

  def _end(self, file: File, check_: Check, state: dict[str, Any]) -> None:
    try:
      if expressions.value(check_.tree, expressions.Scope(state)):
        return
    except expressions.FaultError:
      pass
    tensors = state.get('initialized_tensors')
    text = f'expected {words.condition(check_.tree, "the log", state)}'
    key = ''
    if isinstance(tensors, list):
      key = 'weights_initialization'
      text = _tensors(check_, tensors)
    self._others.append(Fault(None, key, text, f'{file.name} END'))

  def _aggregated(self, file: File, records) -> Iterator[Record]:
    """One event for the metrics of every checkpoint that was scored."""
    joined: dict[float, Record] = {}
    unit = file.aggregates_by
    for record in records:
      if record.key != ACCURACY or 'metric' not in record.metadata:
        continue
      at = record.metadata.get(unit)
      if not is_number(at):
        text = f'expected metadata {unit} with a number in {ACCURACY}'
        rule = f'{file.name} {ACCURACY}'
        self._others.append(Fault(record.line, ACCURACY, text, rule))
        continue
      before = joined.get(at)
      values = before.value if before else {unit: at}
      values = {**values, str(record.metadata['metric']): record.value}
      joined[at] = record._replace(key=_AGGREGATED, value=values, metadata={})
    yield from joined.values()

  def _add(
    self, rule: Rule, record: Record | None, text: str, *, error: bool = True
  ) -> None:
    line = record.line if record else None
    fault = Fault(line, rule.key, text, rule.name, error)
    self._by_key.setdefault(rule.key, []).append(fault)


def _came(record: Record) -> str:
  if record.value is None and record.metadata:
    named = {
      name: value
      for name, value in record.metadata.items()
      if name not in ('file', 'lineno')
    }
    return show(named) if named else 'no value'
  return show(record.value)


def _tensors(check_: Check, got: list[Any]) -> str:
  wanted = bounds.listed(check_.tree)
  given = [tensor for tensor in got if isinstance(tensor, str)]
  missing = sorted(set(wanted) - set(given))
  extra = sorted(set(given) - set(wanted))
  text = f'expected weights_initialization of {len(wanted)} tensors, each once'
  text += f', got {len(got)}'
  if missing:
    text += f'; missing {show(missing[0])}'
  if extra:
    text += f'; unknown {show(extra[0])}'
  return text
