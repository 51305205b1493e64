"""Facts of a set of runs that are kept after its audit, to compare sets by."""

from typing import NamedTuple

from suite.results.audit import compared, runs


class Kept(NamedTuple):
  """Facts that are kept of a set of runs after its audit."""

  path: str
  name: str | None  # of the benchmark
  official: bool
  ruleset: str | None
  certain: bool  # whether more than keys tell the ruleset
  digests: dict[str, str]  # -> log
  courses: dict[str, str]
  seeds: frozenset[int]


def kept_of(path: str, checked: runs.SetAudit) -> Kept:
  """Keeps what is compared of a set in a folder `path`."""
  digests, courses, seeds = {}, {}, set()
  for audit in checked.runs.values():
    log = f'{path}/{audit.log.name}'
    if audit.log.records:
      digests[audit.log.digest] = log
    if course := runs.course(audit):
      courses[course] = log
    if audit.seed is not None:
      seeds.add(audit.seed)
  claims = [audit.claim for audit in checked.runs.values()]
  return Kept(
    path,
    checked.name,
    all(claim.official for claim in claims),
    checked.ruleset,
    compared.certain(checked.runs),
    digests,
    courses,
    frozenset(seeds),
  )
