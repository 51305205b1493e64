"""Compares the convergence of audited runs with that of the reference."""

from collections.abc import Mapping
import dataclasses

from suite import benchmark as benchmark_lib
from suite.benchmark import Benchmark
from suite.results import convergence
from suite.results.audit import official, reached, rounds
from suite.results.audit.findings import ERROR, WARNING
from suite.results.audit.one import LogAudit
from suite.results.convergence import Verdict

RULE = 'convergence points'
_FAR = 2.0  # t(0.999) / t(0.95), for the 20 runs of a reference and 5 or 10


@dataclasses.dataclass(frozen=True)
class Compared:
  """Verdict of the convergence points on a set of runs."""

  verdict: Verdict | None = None  # None: there are no points for it
  fault: str = ''  # what the verdict has against the set
  severity: str = ''  # of the fault

  @property
  def rejected(self) -> bool:
    """Returns whether the convergence of the set makes it no result."""
    return self.severity == ERROR

  @property
  def factor(self) -> float:
    """Factor of times; 1 without points, and where they reject.

    A set that is too fast and still within chance counts at its factor.
    """
    statuses = (convergence.PASSES, convergence.TOO_FAST)
    counts = self.verdict and self.verdict.status in statuses
    return self.verdict.factor if counts and not self.rejected else 1.0


def compare(
  runs: Mapping[int, LogAudit],
  name: str | None,
  benchmark: Benchmark | None,
  ruleset: str | None,
) -> Compared:
  """Holds runs of a benchmark to the points of a ruleset.

  Points are of Closed: Open has no reference to be faster than.
  """
  if not ruleset or not name or not all(r.claim.closed for r in runs.values()):
    return Compared()
  verdict = _judged(runs, name, benchmark, ruleset)
  if verdict and verdict.status == convergence.TOO_FAST:
    return _too_fast(runs, name, benchmark, ruleset, verdict)
  if verdict and verdict.status == convergence.MISSING:
    # Only official rounds have somebody to provide a point to.
    severity = ERROR if ruleset in official.rulesets() else WARNING
    return Compared(verdict, str(verdict), severity)
  return Compared(verdict)  # other checks report the other statuses


def certain(runs: Mapping[int, LogAudit]) -> bool:
  """Returns whether more than keys tell the ruleset, as factors need."""
  ways = {run.claim.chosen for run in runs.values()}
  return bool(ways) and official.KEYS not in ways and '' not in ways


def alternatives(
  runs: Mapping[int, LogAudit], name: str | None, benchmark: Benchmark | None
) -> str:
  """The other rulesets that a set fits, and what they would change; '' if none.

  'found from its keys; 4.0.0 (times x 1.0080), 4.1.0 (no points) fit as well:
  --ruleset chooses'
  """
  claim = next((run.claim for run in runs.values()), None)
  if claim is None or not claim.others:
    return ''
  each = [
    f'{other} ({_changed(compare(runs, name, benchmark, other))})'
    for other in claim.others
  ]
  fit = 'fits' if len(each) == 1 else 'fit'
  return f'{claim.chosen}; {", ".join(each)} {fit} as well: --ruleset chooses'


def _changed(compared: Compared) -> str:
  if compared.verdict is None:
    return 'no points'
  return 'rejected' if compared.rejected else f'times x {compared.factor:.4f}'


def _told(runs: Mapping[int, LogAudit]) -> bool:
  """Returns whether logs or a person named the ruleset: it is no guess."""
  return {run.claim.chosen for run in runs.values()} <= {'told', 'logged'}


def _judged(runs, name, benchmark, ruleset) -> Verdict | None:
  # Our own points are of the declarations of the suite itself.
  ours = benchmark is not None and name in benchmark_lib.names()
  if ruleset not in official.rulesets() and not (
    ours and benchmark_lib.get(name) == benchmark
  ):
    return None
  scored = benchmark.scored if benchmark else {}
  try:
    return reached.judge(runs, convergence.find(name, ruleset, **scored))
  except ValueError:
    return None  # no points, or runs that disagree, which `mixed` reports


def _too_fast(runs, name, benchmark, ruleset, verdict) -> Compared:
  text = f'expected the convergence of the reference (ruleset {ruleset})'
  text += f', got: {verdict}'
  if ruleset not in official.rulesets() and _chance(verdict):
    text += ' Chance may explain it: times are multiplied by '
    return Compared(verdict, f'{text}{verdict.factor:.3f}', WARNING)
  if not _told(runs):
    for other in rounds.knowing(name):
      judged = _judged(runs, name, benchmark, other)
      if judged and judged.passed:
        text += f' Ruleset {other} would accept it: --ruleset says which holds'
        return Compared(verdict, text, WARNING)
  return Compared(verdict, text, ERROR)


def _chance(verdict: Verdict) -> bool:
  """Returns whether a set that is too fast may still be a lucky one.

  The test rejects one honest set in twenty. In a round somebody looks into it;
  our own sets are made by anyone, so only those are faults that are twice as
  far from the reference, as one in a thousand is.
  """
  expected = verdict.expected
  least = expected.mean - _FAR * (expected.mean - expected.minimum)
  return verdict.mean >= least
