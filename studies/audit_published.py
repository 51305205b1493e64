r"""Judges the audit by published rounds: errors, scores, official verdicts.

git clone https://github.com/mlcommons/training_results_v5.1
python studies/audit_published.py --official training_results_v5.1

For every set of logs below a folder: the first error of the audit, if it has
one, and the score beside the olympic mean that a few lines of code find in the
same logs. With --official, the sets that have errors are given to the official
checkers of logs and of seeds as well, so that false alarms stand out: what they
accept and the audit does not is to be a defect that can be named.
"""

from collections.abc import Sequence
import json
import logging as python_logging
import os
import pathlib
import sys

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.package_checker import seed_checker
from mlperf_logging.rcp_checker import rcp_checker

from suite.results import audit
from suite.results.audit.record import TOKEN
from suite.results.convergence import store
from suite.results.scoring import logs

_OFFICIAL = flags.DEFINE_bool(
  'official', False, 'Give sets with errors to the official checkers, too.'
)
_RULESET = flags.DEFINE_string(
  'ruleset', '', 'As that of launch.check; default: found for each set.'
)
_SAME = 0.001  # minutes


def main(argv):
  roots = argv[1:]
  if not roots:
    raise app.UsageError('Expected folders of published results, got none.')
  for root in roots:
    _judge(pathlib.Path(root))


def _judge(root: pathlib.Path) -> None:
  folders = sorted({path.parent for path in root.rglob('result_*.txt')})
  bad, accepted, scored, other = 0, 0, 0, 0
  for number, folder in enumerate(folders, start=1):
    found = audit.examine_set(folder, ruleset=_RULESET.value or None)
    faults = audit.errors(found.findings)
    if faults:
      bad += 1
      verdict = ''
      if _OFFICIAL.value:
        good = _accepted(folder, found)
        accepted += good
        verdict = ' (officially accepted)' if good else ' (officially refused)'
      print(f'{folder.relative_to(root)}{verdict}: {faults[0]}', flush=True)
    expected = _olympic(folder)
    if expected is not None:
      score = logs.score(str(folder), ruleset=_RULESET.value)
      seconds = score.unnormalised_seconds
      scored += seconds is not None
      if seconds is None or abs(seconds / 60 - expected) > _SAME:
        other += 1
        print(
          f'{folder.relative_to(root)}: {expected:.4f} min, scored {seconds}'
        )
    if number % 50 == 0:
      print(f'{number} of {len(folders)} sets', file=sys.stderr)
  text = f'{root}: {len(folders)} sets, {bad} with an error'
  if _OFFICIAL.value:
    text += f' ({accepted} officially accepted)'
  print(f'{text}; {scored} scored, {other} otherwise than by start and stop')


def _accepted(folder: pathlib.Path, found: audit.SetAudit) -> bool:
  """Returns whether the official tools accept a set; a traceback is a no.

  They allow as many failed runs as are left out as the slowest, and ask for
  seeds and for the convergence of the reference in Closed.
  """
  ruleset = found.ruleset or ''
  paths = [str(path) for path in folder.glob('result_*.txt')]
  failed = 0
  for path in paths:
    # The queue is global and keeps what an exception left in it.
    mlp_compliance.enqueued_configs.clear()
    try:
      checker = mlp_compliance.make_checker('training', ruleset, True, False)
      config = f'training_{ruleset}/common.yaml'
      failed += not mlp_compliance.main(path, config, checker)[0]
    except Exception:  # whatever it dies of
      failed += 1
  name = found.name or ''
  if failed > store.official_dropped(name):
    return False
  if len(paths) != store.official_runs(name):
    return False
  closed = all(run.claim.closed for run in found.runs.values())
  return not closed or _rest_accepted(folder, ruleset, paths)


def _rest_accepted(
  folder: pathlib.Path, ruleset: str, paths: Sequence[str]
) -> bool:
  """Asks the checkers of whole sets; a traceback is a refusal."""
  try:
    converged, *_ = rcp_checker.check_directory(
      str(folder), 'training', ruleset, False, False, rcp_pass='pruned_rcps'
    )
    return converged and seed_checker.SeedChecker(ruleset).check_seeds(paths)
  except Exception:
    return False


def _olympic(folder: pathlib.Path) -> float | None:
  """Minutes from run_start to run_stop, without the best and the worst runs."""
  times = [_minutes(path) for path in folder.glob('result_*.txt')]
  dropped = store.official_dropped(folder.name)
  good = sorted(minutes for minutes in times if minutes is not None)
  failed = len(times) - len(good)
  if failed > dropped or len(times) <= 2 * dropped:
    return None
  counted = good[dropped : len(times) - dropped]
  return sum(counted) / len(counted)


def _minutes(path: pathlib.Path) -> float | None:
  """Minutes from the first run_start to the first run_stop; None: it failed."""
  ends = {}
  with path.open(errors='replace') as file:
    for line in file:
      text = line.partition(TOKEN.decode())[2].strip()
      if '"run_st' in text:
        try:
          record = json.loads(text)
        except ValueError:
          continue
        ends.setdefault(record['key'], record)
  if not {'run_start', 'run_stop'} <= {*ends}:
    return None
  start, stop = ends['run_start'], ends['run_stop']
  if (stop.get('metadata') or {}).get('status') != 'success':
    return None
  return (stop['time_ms'] - start['time_ms']) / 60_000


if __name__ == '__main__':
  python_logging.disable(python_logging.ERROR)  # of the official checkers
  app.run(main)
