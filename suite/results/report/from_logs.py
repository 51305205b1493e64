"""Records of runs from logs alone, of anybody's published set.

Logs say when and how well a run did, and its settings. What our own runs record
beside them, such as losses, the system and versions, stays empty.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import datetime
import math
import os
import pathlib
from typing import Any

from suite import benchmark as benchmark_lib
from suite.results import audit, old_logs, records, scoring
from suite.results.audit import timing
from suite.results.audit.claim import Lookup
from suite.results.old_logs import OldLog
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
  logs = scoring.logs_in(directory)
  if name := old_logs.round_of(next(iter(logs.values()))):
    return _old(directory, name, logs, score)
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


def _old(
  directory: str,
  name: str,
  logs: Mapping[int, pathlib.Path],
  score: Score,
) -> tuple[list[RunRecord], Score]:
  """Records of logs of v0.5 and v0.6, as far as those hold any."""
  seconds = {value.run: value.seconds for value in score.values}
  read = {number: old_logs.read(path) for number, path in logs.items()}
  found = [
    _old_record(number, log, seconds.get(number))
    for number, log in read.items()
    if log.target and log.start_ms
  ]
  if not found:
    raise ValueError(
      f'Expected logs of {directory} that hold run_start, of a benchmark of '
      f'{name}, got none of {next(iter(read.values())).benchmark or "?"}.'
    )
  records.require_one_kind(found, directory)
  told = f'warning {os.path.basename(directory)}: logs of {name} are read for'
  told += ' their times, evals and settings, and nothing of them is checked'
  target = str(found[0].target)
  return found, dataclasses.replace(score, findings=[told], target=target)


def _old_record(number: int, log: OldLog, seconds: float | None) -> RunRecord:
  begun = log.start_ms if log.init_ms is None else log.init_ms
  return _made(
    seconds,
    benchmark=log.benchmark or '?',
    size='reference',
    ruleset=log.round,
    # Nothing of v0.5 says it; nearly all that was handed in was Closed.
    division=log.division or 'closed',
    run=number,
    seed=log.seed,
    status='success' if log.success else 'aborted',
    reason='' if log.success else 'missed the target, or has no end',
    target=log.target,
    startup=Startup(max(0.0, log.start_ms - begun) / 1000.0, {}, math.inf),
    timed=_phase(log.duration or 0.0, log.evaluating),
    evals=_evals(
      [
        ('epoch_num', each.epoch, each.time_ms, each.quality)
        for each in log.evals
      ],
      log.start_ms,
    ),
    hyperparameters=_settings(
      {
        key: value
        for key, value in log.settings.items()
        if key not in (*old_logs.SEEDS, 'eval_target')
      }
    ),
    system={
      name: log.settings[key]
      for key, name in _SYSTEM.items()
      if key in log.settings
    },
    start_ms=log.start_ms,
  )


def _record(
  number: int, each: audit.LogAudit, seconds: float | None
) -> RunRecord:
  log, claim = each.log, each.claim
  start, stop = log.first('run_start'), log.first('run_stop')
  whole = (stop.time_ms - start.time_ms) / 1000.0 if stop else 0.0
  return _made(
    seconds,
    benchmark=claim.name or '?',
    size=claim.size_name,
    ruleset=claim.ruleset or 'unknown',
    division=claim.division.value if claim.division else 'unknown',
    run=number,
    seed=each.seed,
    status=each.status or 'unknown',
    reason='' if each.converged else str(each.status or 'no end'),
    target=claim.target,
    startup=Startup(
      max(0.0, timing.startup_ms(log) or 0.0) / 1000.0,
      {},
      claim.startup_allowance,
    ),
    timed=_phase(whole, _evaluating(each)),
    evals=_evals(
      [(one.unit, one.at, one.time_ms, one.quality) for one in each.evals],
      start.time_ms,
    ),
    hyperparameters=_settings(each.settings),
    system={
      name: log.value(key) for key, name in _SYSTEM.items() if log.value(key)
    },
    start_ms=start.time_ms,
    draft=claim.draft,
  )


def _made(seconds: float | None, *, start_ms: float, **known: Any) -> RunRecord:
  """A record whose other fields are empty, as logs do not hold them."""
  began = datetime.datetime.fromtimestamp(start_ms / 1000, datetime.UTC)
  return RunRecord(
    time_to_quality=seconds,
    losses=(),
    steps=0,
    samples=0,
    samples_per_second=None,
    versions={},
    data=DataUsed('', ''),
    command=(),
    started=began.isoformat(),
    **known,
  )


def _phase(whole: float, evaluating: float) -> Phase:
  spent = min(evaluating, whole)
  return Phase(whole, {'training': whole - spent, 'evaluation': spent})


def _settings(settings: Mapping[str, Any]) -> dict[str, Setting]:
  return {
    key: Setting(value, None, key, tunable=True, help='')
    for key, value in settings.items()
    if not key.startswith('submission_')
  }


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


def _evals(
  evals: Iterable[tuple[str | None, float | None, float, Mapping[str, float]]],
  start_ms: float,
) -> list[Eval]:
  """Evals (unit, place, time, quality) that have a place.

  Metrics that are logged apart come together.
  """
  found: dict[tuple[str, float], Eval] = {}
  for unit, at, time_ms, quality in evals:
    if at is None:
      continue
    seconds = max(0.0, (time_ms - start_ms) / 1000.0)
    before = found.get((unit, at))
    together = {**(before.quality if before else {}), **quality}
    found[unit, at] = Eval(
      at={unit: at}, step=0, seconds=seconds, quality=together
    )
  return list(found.values())
