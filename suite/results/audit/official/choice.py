"""Finds the ruleset that a log was written for.

A log does not say. Of the rulesets that have rules for its benchmark, the one
is taken that fits the log's keys best: every key that it asks for and the log
lacks counts against it, and so does every key of the log that a newer ruleset
asks for and it does not. (Keys that only older ones ask for tell little:
loggers keep writing them.) Among equals that with the fewest faults is taken,
then that which has rules for the most of the log's keys, then the newest.
"""

from collections.abc import Mapping, Sequence

from suite.results.audit.log import Record
from suite.results.audit.official import engine, rules
from suite.results.audit.official.engine import Verdict


def choose(
  records: Sequence[Record], benchmark: str, division: str, optimizer: str
) -> Verdict | None:
  """The verdict of the ruleset that fits; None for an unknown benchmark."""
  present = {record.key for record in records}
  wanted = _wanted(benchmark, division, optimizer)
  if not wanted:
    return None
  misfits = {
    ruleset: len(keys - present) + len(present & _newer(wanted, ruleset) - keys)
    for ruleset, keys in wanted.items()
  }
  least = min(misfits.values())
  verdicts = [
    engine.check(records, ruleset, benchmark)
    for ruleset, count in misfits.items()
    if count == least
  ]
  return min(
    reversed(verdicts),
    key=lambda verdict: (
      sum(fault.error for fault in verdict.faults),
      -len(present & _named(verdict)),
    ),
  )


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
  newer = [
    keys
    for other, keys in wanted.items()
    if rules.order(other) > rules.order(ruleset)
  ]
  return frozenset().union(*newer)
