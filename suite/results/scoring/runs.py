"""Runs as scoring needs them, from audited logs and those of old rounds.

Logs of v0.7 and later are read and judged by `suite.results.audit`. Those of
v0.5 and v0.6 (`old_logs`) are read for their times, and nothing else of them is
checked.
"""

import dataclasses
import operator

from suite import clock, hparams
from suite.results.audit import LogAudit, timing
from suite.results.old_logs import OldLog
from suite.results.records import Value


@dataclasses.dataclass(frozen=True)
class Run:
  """One run; None where the log does not say."""

  benchmark: str | None
  division: str | None
  start_ms: float | None  # since 1970
  stop_ms: float | None
  value: Value  # as a score shows it, yet without what is dropped


def from_audit(number: int, found: LogAudit, allowance: float) -> Run:
  """A run as the audit saw it; startup beyond `allowance` seconds counts."""
  last = found.evals[-1] if found.evals else None
  batch = hparams.batch_in(found.settings)
  start, stop = found.log.first('run_start'), found.log.first('run_stop')
  return Run(
    benchmark=found.claim.name,
    division=found.claim.division and found.claim.division.value,
    start_ms=start and start.time_ms,
    stop_ms=stop and stop.time_ms,
    value=Value(
      run=number,
      seed=found.seed,
      status=found.status,
      seconds=time_to_quality(found, allowance),
      reached=last and last.at,
      unit=last and last.unit,
      quality=dict(last.quality) if last else {},
      batch_size=batch if isinstance(batch, int) else None,
      dropped=None,
    ),
  )


def time_to_quality(found: LogAudit, allowance: float) -> float | None:
  """Seconds from run_start to run_stop, and of startup beyond `allowance`.

  None if the run did not converge.
  """
  if not found.converged:
    return None
  ends = (found.log.first(key).time_ms for key in ('run_stop', 'run_start'))
  startup = timing.startup_ms(found.log) / 1000.0
  return clock.time_to_quality(operator.sub(*ends) / 1000.0, startup, allowance)


def from_old(number: int, log: OldLog) -> Run:
  """A run of v0.5 or v0.6, as its log tells it."""
  last = log.evals[-1] if log.evals else None
  status = {True: 'success', False: 'aborted', None: None}[log.success]
  at = last and last.epoch
  return Run(
    benchmark=log.benchmark,
    division=log.division,
    start_ms=log.start_ms,
    stop_ms=log.stop_ms,
    value=Value(
      run=number,
      seed=log.seed,
      status=status,
      seconds=log.seconds,
      reached=at,
      unit=None if at is None else 'epoch_num',
      quality=dict(last.quality) if last else {},
      batch_size=log.batch_size,
      dropped=None,
    ),
  )
