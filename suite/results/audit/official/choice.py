"""Finds the ruleset that logs were written for.

Logs do not say. They say when they were made and what they hold: of the
rulesets that have rules for their benchmark, the one is taken that was being
submitted to when the last of the runs began, unless their keys contradict.
Every key that a ruleset asks for and the logs lack is a misfit, and so is every
key of theirs that only newer rulesets ask for. (Keys that older ones ask for
tell little: loggers keep writing them.) A log may lack one key of its round.
Where it fits worse, or that round lacks the benchmark, it was handed in again
in a later one: the next that fits is taken. Without a date, or where no later
one fits, it is that with the fewest misfits; among equals that with the fewest
faults, then that which has rules for the most of the keys, then the newest. A
folder that names a round settles it.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import re

from suite import rounds
from suite.results.audit.official import engine, rules
from suite.results.audit.official.engine import Verdict
from suite.results.audit.record import Record

NAMED, DATED, KEYS = (
  'named by a folder', 'found from its dates and keys', 'found from its keys',
)  # fmt: skip
_SLACK = 1  # misfits beyond the least that a date outweighs
_ROUND = re.compile(r'(?:.*[_-])?v?([0-9]{1,2}\.[0-9])(?:\.0)?')


@dataclasses.dataclass(frozen=True)
class Choice:
  """Ruleset that fits logs, by which evidence, and others that fit as well."""

  ruleset: str
  chosen: str  # one of the constants above
  others: tuple[str, ...] = ()  # oldest first


def choose(
  logs: Sequence[Sequence[Record]],
  benchmark: str,
  division: str,
  optimizer: str,
  *,
  began_ms: Iterable[float] = (),
  folders: Sequence[str] = (),
) -> Choice | None:
  """The ruleset that fits the records of logs of one benchmark.

  Args:
    logs: records of each log.
    benchmark: name of the benchmark.
    division: 'closed' or 'open'.
    optimizer: what the logs have as opt_name.
    began_ms: when each run began, in ms since 1970.
    folders: names of the folders that the logs lie in, the innermost first.

  Returns:
    The choice; None for a benchmark that no ruleset has.
  """
  present = {record.key for records in logs for record in records}
  wanted = _wanted(benchmark, division, optimizer)
  if not wanted:
    return None
  for folder in folders:
    match = _ROUND.fullmatch(folder)
    if match and f'{match[1]}.0' in wanted:
      return Choice(f'{match[1]}.0', NAMED)
  misfits = {
    ruleset: len(keys - present) + len(present & _newer(wanted, ruleset) - keys)
    for ruleset, keys in wanted.items()
  }
  least = min(misfits.values())
  fitting = [ruleset for ruleset, count in misfits.items() if count == least]
  dated = _dated(began_ms)
  if dated and misfits.get(dated, math.inf) > least + _SLACK:
    dated = next((r for r in fitting if _later(r, dated)), None)
  if dated:
    others = [r for r in fitting if r != dated and _later(r, dated)]
    return Choice(dated, DATED, tuple(others))
  verdicts = [engine.check(logs[0], ruleset, benchmark) for ruleset in fitting]
  best = min(
    reversed(verdicts),
    key=lambda verdict: (
      sum(fault.error for fault in verdict.faults),
      -len(present & _named(verdict)),
    ),
  ).ruleset
  return Choice(best, KEYS, tuple(r for r in fitting if r != best))


def _dated(began_ms: Iterable[float]) -> str | None:
  """Ruleset of the newest round that one of the runs can have been made for."""
  names = {rounds.at(each) for each in began_ms} - {''}
  found = [f'{name.removeprefix("v")}.0' for name in names]
  return max(found, key=rules.order, default=None)


def _later(ruleset: str, other: str) -> bool:
  return rules.order(ruleset) >= rules.order(other)


def _named(verdict: Verdict) -> frozenset[str]:
  return frozenset(
    key
    for name in verdict.files
    for key in rules.load(name).rules
    if not key.startswith('submission_')
  )


def _wanted(
  benchmark: str, division: str, optimizer: str
) -> Mapping[str, frozenset[str]]:
  """Ruleset -> the keys that it asks for, oldest first."""
  names = (
    'common.yaml',
    f'{division}_common.yaml',
    f'{division}_{benchmark}.yaml',
    f'{division}_{benchmark}_{optimizer}.yaml',
  )
  found = {}
  for ruleset in rules.benchmarks().get(benchmark, ()):
    keys = engine.asked(ruleset, names)
    if ruleset != rules.FORMER and _accepts(ruleset, benchmark, division):
      found[ruleset] = keys
  return found


def _accepts(ruleset: str, benchmark: str, division: str) -> bool:
  """Some rulesets ship files for benchmarks that they do not accept."""
  for name in ('common.yaml', f'{division}_common.yaml'):
    file = rules.load(f'training_{ruleset}/{name}')
    rule = file.rules.get('submission_benchmark') if file else None
    if rule:
      return any(f"'{benchmark}'" in check.source for check in rule.checks)
  return False


def _newer(
  wanted: Mapping[str, frozenset[str]], ruleset: str
) -> frozenset[str]:
  """Keys that only rulesets after one ask for, names of systems aside."""
  newer, older = set(), set()
  for other, keys in wanted.items():
    if rules.order(other) != rules.order(ruleset):
      (newer if _later(other, ruleset) else older).update(keys)
  return frozenset(
    key for key in newer - older if not key.startswith('submission_')
  )
