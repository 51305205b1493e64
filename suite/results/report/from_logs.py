"""Records of runs from logs alone, of anybody's published set.

Logs say when and how well a run did, and its settings. What our own runs record
beside them, such as losses, the system and versions, stays empty.
"""

import dataclasses
import datetime
import os

from suite import benchmark as benchmark_lib
from suite.results import audit, records, scoring
from suite.results.audit import timing
from suite.results.audit.claim import Lookup
from suite.results.records import (
  DataUsed,
  Phase,
  RunRecord,
  Score,
  Setting,
  Startup,
)
from suite.target import Eval

# The log's words for the system, by the names that reports have.
_SYSTEM = {
  'submission_platform': 'accelerator',
  'submission_org': 'submitter',
  'submission_status': 'availability',
}


def read(
  directory: str | os.PathLike,
  get: Lookup = benchmark_lib.get,
  *,
  ruleset: str = '',
) -> tuple[list[RunRecord], Score]:
  """Records and score of the logs in a folder, in the order of the runs.

  Runs without run_start or a target known here have no record; the score knows
  of them. Raises ValueError where none has one.
  """
  directory = os.fspath(directory)
  score = scoring.score(directory, get=get, ruleset=ruleset)
  checked = audit.examine_set(directory, get, ruleset=ruleset or None)
  seconds = {value.run: value.seconds for value in score.values}
  found = [
    _record(number, each, seconds.get(number))
    for number, each in checked.runs.items()
    if each.claim.target and each.log.first('run_start')
  ]
  if not found:
    raise ValueError(
      f'Expected logs of {directory} that hold run_start, of a benchmark whose '
      f'target is known here, got none of {checked.name or "?"}.'
    )
  records.require_one_kind(found, directory)
  kinds = audit.kinds(checked.findings, first=audit.DECISIVE)
  return found, dataclasses.replace(score, findings=[str(k) for k in kinds])


def _record(
  number: int, each: audit.LogAudit, seconds: float | None
) -> RunRecord:
  log, claim = each.log, each.claim
  start, stop = log.first('run_start'), log.first('run_stop')
  whole = (stop.time_ms - start.time_ms) / 1000.0 if stop else 0.0
  spent = min(_evaluating(each), whole)
  began = datetime.datetime.fromtimestamp(start.time_ms / 1000, datetime.UTC)
  platform = {
    name: log.value(key) for key, name in _SYSTEM.items() if log.value(key)
  }
  return RunRecord(
    benchmark=claim.name or '?',
    size=claim.size_name,
    ruleset=claim.ruleset or 'unknown',
    division=claim.division.value if claim.division else 'unknown',
    run=number,
    seed=each.seed,
    status=each.status or 'unknown',
    reason='' if each.converged else str(each.status or 'no end'),
    target=claim.target,
    time_to_quality=seconds,
    startup=Startup(
      max(0.0, timing.startup_ms(log) or 0.0) / 1000.0,
      {},
      claim.startup_allowance,
    ),
    timed=Phase(whole, {'training': whole - spent, 'evaluation': spent}),
    evals=_evals(each, start.time_ms),
    losses=(),
    steps=0,
    samples=0,
    samples_per_second=None,
    hyperparameters={
      key: Setting(value, None, key, tunable=True, help='')
      for key, value in each.settings.items()
      if not key.startswith('submission_')
    },
    system=platform,
    versions={},
    data=DataUsed('', ''),
    command=(),
    started=began.isoformat(),
    draft=claim.draft,
  )


def _evaluating(each: audit.LogAudit) -> float:
  """Seconds between eval_start and eval_stop, where a log has both."""
  total, begun = 0.0, None
  for record in each.log.timeline:
    if record.key == 'eval_start':
      begun = record.time_ms
    elif record.key == 'eval_stop' and begun is not None:
      total += (record.time_ms - begun) / 1000.0
      begun = None
  return max(0.0, total)


def _evals(each: audit.LogAudit, start_ms: float) -> list[Eval]:
  """The evals that have a place; metrics that are logged apart, together."""
  found: dict[tuple[str, float], Eval] = {}
  for one in each.evals:
    if one.at is None:
      continue
    seconds = max(0.0, (one.time_ms - start_ms) / 1000.0)
    before = found.get((one.unit, one.at))
    quality = {**(before.quality if before else {}), **one.quality}
    found[one.unit, one.at] = Eval(
      at={one.unit: one.at}, step=0, seconds=seconds, quality=quality
    )
  return list(found.values())
