"""Audits one log: every class of check, and a summary of the run."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from suite import benchmark as benchmark_lib
from suite.results.audit import (
  cadence,
  official,
  order,
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
class LogSummary:
  """Facts of a run by its log; None where it does not say."""

  benchmark: str | None
  size: str
  division: str | None
  seed: int | None
  run_start_ms: float | None
  run_stop_ms: float | None
  startup_ms: float | None  # from init_start to run_start
  status: str | None  # 'success' or 'aborted'
  reason: str | None
  evals: Sequence[Eval]
  settings: Mapping[str, Any]
  converged: bool  # it ended with success, the target met by its last eval
  ruleset: str | None = None  # that the log was held to; None: none is known


@dataclasses.dataclass(frozen=True)
class LogAudit:
  """Result of the audit of one log."""

  log: Log
  claim: claims.Claim
  summary: LogSummary
  findings: Sequence[Finding]


def examine_log(
  path: str | os.PathLike,
  get: claims.Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> LogAudit:
  """Reads a log once and checks it in every way.

  `ruleset` is the ruleset that the log is held to: '4.0.0', or one of our own,
  which begin with 'podium'. The default is the ruleset that the log names, or
  the official one that fits its keys best (`official.choice`). Raises
  ValueError for an unknown ruleset.
  """
  log = read(path, official.keys())
  claim, findings = claims.resolve(log, get, ruleset)
  claim = dataclasses.replace(claim, hparams=settings.rebuild(log, claim))
  if log.records:
    findings = [
      *log.findings,
      *findings,
      *order.check(log, claim),
      *timing.check(log, claim),
      *quality.check(log, claim),
      *cadence.check(log, claim, quality.evals(log, claim)),
      *settings.check(log, claim),
    ]
    findings += claims.official_findings(log, claim, findings)
  else:
    findings = log.findings
  findings = sorted(findings, key=lambda f: (f.line or 0, f.severity))
  return LogAudit(log, claim, _summary(log, claim, findings), findings)


def _summary(
  log: Log, claim: claims.Claim, findings: Sequence[Finding]
) -> LogSummary:
  start, stop = log.first('run_start'), log.first('run_stop')
  seed = log.value('seed')
  found = quality.evals(log, claim)
  return LogSummary(
    benchmark=claim.name,
    size=claim.size_name,
    division=claim.division.value if claim.division else None,
    seed=seed if isinstance(seed, int) else None,
    run_start_ms=start.time_ms if start else None,
    run_stop_ms=stop.time_ms if stop else None,
    startup_ms=timing.startup_ms(log),
    status=_text(stop, 'status'),
    reason=_text(stop, 'reason'),
    evals=found,
    settings={
      key: setting.first.value
      for key, setting in log.settings.items()
      if claim.is_setting(key)
    },
    converged=_converged(log, claim, found, findings),
    ruleset=claim.ruleset,
  )


def _text(record: Any, name: str) -> str | None:
  value = record.metadata.get(name) if record else None
  return value if isinstance(value, str) else None


# Faults that leave no time or no quality to score.
_DECISIVE = ('converged', 'target', 'quality', 'quality unit', 'durations',
             'time unit', 'time goes forward', 'one run in a log', 'order',
             'required event', resumes.RULE)  # fmt: skip


def _converged(log, claim, found, findings) -> bool:
  if _text(log.first('run_stop'), 'status') != 'success' or not found:
    return False
  if quality.bound(claim) and not quality.met(claim, found[-1]):
    return False
  return not any(f.severity == ERROR and f.rule in _DECISIVE for f in findings)
