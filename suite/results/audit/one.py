"""Audits one log: every class of check, and facts of the run."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from suite import benchmark as benchmark_lib
from suite.results.audit import (
  cadence,
  official,
  order,
  plausible,
  quality,
  resumes,
  settings,
  timing,
)
from suite.results.audit import claim as claims
from suite.results.audit.findings import ERROR, Finding
from suite.results.audit.log import Log, read
from suite.results.audit.quality import Eval


@dataclasses.dataclass(frozen=True)
class LogAudit:
  """Result of the audit of one log; a fact is None where it does not say."""

  log: Log
  claim: claims.Claim
  findings: Sequence[Finding]
  evals: Sequence[Eval]  # that are valid; of those done again, the last
  converged: bool  # it ended with success, the target met by its last eval

  @property
  def seed(self) -> int | None:
    """The seed of the run."""
    seed = self.log.value('seed')
    return seed if isinstance(seed, int) else None

  @property
  def status(self) -> str | None:
    """'success' or 'aborted'."""
    if order.aborted(self.log):
      return 'aborted'
    stop = self.log.first('run_stop')
    status = stop and stop.metadata.get('status')
    return status if isinstance(status, str) else None

  @property
  def settings(self) -> dict[str, Any]:
    """The values of the settings, by the log's keys."""
    return {
      key: setting.first.value
      for key, setting in self.log.settings.items()
      if self.claim.is_setting(key)
    }


def examine_log(
  path: str | os.PathLike,
  get: claims.Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> LogAudit:
  """Reads a log once and checks it in every way.

  `ruleset` is the ruleset that the log is held to: '4.0.0', or one of our own,
  which begin with 'podium'. The default is the ruleset that the log names, or
  the official one that fits it best (`official.choice`). Raises ValueError for
  an unknown ruleset.
  """
  return examine_read(read(path, official.keys()), get, ruleset)


def examine_read(
  log: Log,
  get: claims.Lookup = benchmark_lib.get,
  ruleset: str | None = None,
  found: official.Choice | None = None,
) -> LogAudit:
  """As `examine_log`, of a log that is read; `found` is what its set fits."""
  claim, findings = claims.resolve(log, get, ruleset, found)
  if not claim.ours:  # evals may be scored apart and logged afterwards
    log.sort()
  claim = dataclasses.replace(claim, hparams=settings.rebuild(log, claim))
  evals = quality.evals(log, claim)
  if log.records:
    findings = [
      *log.findings,
      *findings,
      *order.check(log, claim),
      *timing.check(log, claim),
      *quality.check(log, claim, evals),
      *cadence.check(log, claim, evals),
      *settings.check(log, claim),
      *plausible.check(log, claim, evals),
    ]
    findings += claims.official_findings(log, claim, findings)
  else:
    findings = log.findings
  findings = sorted(findings, key=lambda f: (f.line or 0, f.severity))
  converged = _converged(log, claim, evals, findings)
  return LogAudit(log, claim, findings, evals, converged)


# Faults that leave no time or no quality to score.
DECISIVE = ('converged', 'target', 'quality', 'quality unit', 'durations',
             'time unit', 'time goes forward', 'one run in a log', 'order',
             'required event', resumes.RULE)  # fmt: skip


def _converged(log, claim, found, findings) -> bool:
  stop = log.first('run_stop')
  if not found or stop is None or stop.metadata.get('status') != 'success':
    return False
  decide = found if claim.name in order.SCORED_AFTERWARDS else found[-1:]
  if quality.bound(claim) and not any(quality.met(claim, e) for e in decide):
    return False
  return not any(f.severity == ERROR and f.rule in DECISIVE for f in findings)
