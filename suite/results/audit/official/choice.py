"""Finds the ruleset that logs were written for.

Logs do not say. They say when they were made and what they hold, and the
description and the name of their system say what software it ran, named after
the month of its release: of the rulesets that have rules for their benchmark,
the one is taken that was being submitted to when the last of the runs began and
that software was out, unless their keys contradict. Every key that a ruleset
asks for and the logs lack is a misfit, and so is every key of theirs that only
newer rulesets ask for. (Keys that older ones ask for tell little: loggers keep
writing them.) A log may lack one key of its round. Where it fits worse, or that
round lacks the benchmark, it was handed in again in a later one: the next that
fits is taken. Without a date, or where no later one fits, it is that with the
fewest misfits; among equals that whose words the description uses, then that
with the fewest faults, then that which has rules for the most of the keys, then
the newest. A folder that names a round settles it.

The sets of a submission are of one round: the first that none of them is too
new for and that contradicts the fewest of them.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import re

from suite import rounds
from suite.results.audit.official import engine, rules
from suite.results.audit.official.engine import Verdict
from suite.results.audit.record import Record

NAMED, DATED, KEYS, TOGETHER = (
  'named by a folder', 'found from its dates and keys', 'found from its keys',
  'found from all of the submission',
)  # fmt: skip
_SLACK = 1  # misfits beyond the least that a date outweighs
_ROUND = re.compile(r'(?:.*[_-])?v?([0-9]{1,2}\.[0-9])(?:\.0)?')
# From this ruleset on descriptions say their status in words of their own.
_STATUS_SINCE = '4.0.0'


@dataclasses.dataclass(frozen=True)
class Choice:
  """Ruleset that fits logs, by which evidence, and others that fit as well."""

  ruleset: str
  chosen: str  # one of the constants above
  others: tuple[str, ...] = ()  # oldest first


@dataclasses.dataclass(frozen=True)
class Evidence:
  """Signs of the round of a set, in its logs and around them."""

  benchmark: str
  division: str  # 'closed' or 'open'
  optimizer: str  # what the logs have as opt_name
  keys: frozenset[str]  # that the logs hold
  first: Sequence[Record]  # records of the first log
  began_ms: Sequence[float] = ()  # of each run, since 1970
  folders: Sequence[str] = ()  # that the logs lie in, the innermost first
  released: str = ''  # day of the newest software of the system
  new_status: bool | None = None  # in the words from 4.0 on; None: not known

  def dated(self) -> str | None:
    """Ruleset of the first round that the runs can have been made for."""
    names = {rounds.at(each) for each in self.began_ms}
    if names - {''}:  # the software of a system that never ran dates nothing
      names.add(rounds.on(self.released))
    found = [f'{name.removeprefix("v")}.0' for name in names if name]
    return max(found, key=rules.order, default=None)

  def named(self) -> str | None:
    """Ruleset that a folder names, of those that have the benchmark.

    A system may be named after a round that had ended when the runs were made.
    """
    wanted, dated = self.wanted(), self.dated()
    matches = filter(None, map(_ROUND.fullmatch, self.folders))
    found = [f'{match[1]}.0' for match in matches]
    found = [name for name in found if name in wanted]
    fresh = (name for name in found if not dated or _later(name, dated))
    return next(fresh, found[0] if found else None)

  def misfits(self) -> dict[str, int]:
    """Ruleset -> keys of its that the logs lack, or hold too early."""
    wanted = self.wanted()
    return {
      ruleset: len(keys - self.keys)
      + len(self.keys & _newer(wanted, ruleset) - keys)
      for ruleset, keys in wanted.items()
    }

  def wanted(self) -> Mapping[str, frozenset[str]]:
    """Ruleset -> the keys that it asks for, oldest first."""
    return _wanted(self.benchmark, self.division, self.optimizer)


def choose(found: Evidence) -> Choice | None:
  """The ruleset that a set fits; None for a benchmark that no ruleset has."""
  misfits = found.misfits()
  if not misfits:
    return None
  dated = found.dated()
  if named := found.named():
    stale = dated and not _later(named, dated) and _fits(misfits, dated)
    return Choice(named, NAMED, (dated,) if stale else ())
  least = min(misfits.values())
  fitting = [ruleset for ruleset, count in misfits.items() if count == least]
  if dated and not _fits(misfits, dated):
    dated = next((r for r in fitting if _later(r, dated)), None)
  if dated:
    others = [r for r in fitting if r != dated and _later(r, dated)]
    return Choice(dated, DATED, tuple(others))
  said = found.new_status
  agreeing = [r for r in fitting if said is _later(r, _STATUS_SINCE)]
  verdicts = [
    engine.check(found.first, ruleset, found.benchmark)
    for ruleset in agreeing or fitting
  ]
  best = min(
    reversed(verdicts),
    key=lambda verdict: (
      sum(fault.error for fault in verdict.faults),
      -len(found.keys & _named(verdict)),
    ),
  ).ruleset
  return Choice(best, KEYS, tuple(r for r in fitting if r != best))


def choose_together(sets: Sequence[Evidence]) -> Choice | None:
  """The ruleset of all sets of a submission; None where none has them all."""
  misfits = [misfits for each in sets if (misfits := each.misfits())]
  common = [
    ruleset
    for ruleset in rules.rulesets()
    if misfits and all(ruleset in each for each in misfits)
  ]
  named = {name for each in sets if (name := each.named())}
  if len(named) == 1 and named <= {*common}:
    return Choice(named.pop(), NAMED)
  dated = max(filter(None, (s.dated() for s in sets)), key=rules.order,
              default='0.0.0')  # fmt: skip
  if not (common := [r for r in common if _later(r, dated)]):
    return None
  against = {
    ruleset: sum(not _fits(each, ruleset) for each in misfits)
    for ruleset in common
  }
  fewest = [r for r in common if against[r] == min(against.values())]
  if dated != '0.0.0':
    return Choice(fewest[0], TOGETHER, tuple(fewest[1:]))
  alone = [choice.ruleset for each in sets if (choice := choose(each))]
  best = max(reversed(fewest), key=alone.count)
  return Choice(best, TOGETHER, tuple(r for r in fewest if r != best))


def contradicts(found: Evidence, ruleset: str) -> bool:
  """Returns whether a set can't have been made for a ruleset."""
  misfits, dated = found.misfits(), found.dated()
  if ruleset not in misfits:
    return bool(misfits)
  too_new = dated is not None and not _later(ruleset, dated)
  return too_new or not _fits(misfits, ruleset)


def _fits(misfits: Mapping[str, int], ruleset: str) -> bool:
  least = min(misfits.values())
  return ruleset in misfits and misfits[ruleset] <= least + _SLACK


def _later(ruleset: str, other: str) -> bool:
  return rules.order(ruleset) >= rules.order(other)


def _named(verdict: Verdict) -> frozenset[str]:
  return frozenset(
    key
    for name in verdict.files
    for key in rules.load(name).rules
    if not key.startswith('submission_')
  )


@functools.lru_cache(maxsize=1024)  # benchmark and optimizer come from logs
def _wanted(
  benchmark: str, division: str, optimizer: str
) -> Mapping[str, frozenset[str]]:
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
