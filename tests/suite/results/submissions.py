"""Submissions that official checkers pass, made up for the tests."""

from collections.abc import Sequence
import contextlib
import io
import json
import logging
import pathlib

from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.package_checker import package_checker

from suite import benchmark
from suite.results.audit import system
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import Event

RULESETS = {'resnet': '4.0.0', 'llama31_8b': '6.1.0'}
_RUNS = {'resnet': 5, 'llama31_8b': 10}
_LLAMA = {
  'submission_benchmark': 'llama31_8b',
  'submission_division': 'closed',
  'submission_org': 'acme',
  'submission_platform': '1xH200',
  'global_batch_size': 32,
  'train_samples': 1574207408,
  'eval_samples': 1024,
  'gradient_accumulation_steps': 1,
  'max_sequence_length': 8192,
  'opt_name': 'adamw',
  'opt_base_learning_rate': 0.0008,
  'opt_end_learning_rate': 8e-05,
  'opt_learning_rate_warmup_steps': 128,
  'opt_learning_rate_decay_steps': 1199872,
  'opt_learning_rate_decay_schedule': 'cosine with linear warmup',
  'opt_adamw_beta_1': 0.9,
  'opt_adamw_beta_2': 0.95,
  'opt_adamw_epsilon': 1e-05,
  'opt_adamw_weight_decay': 0.1,
  'opt_gradient_clip_norm': 1.0,
  'max_steps': 1200000,
  'lowest_numerical_precision_in_linear': 'bfloat16',
  'lowest_numerical_precision_in_attn': 'bfloat16',
  'lowest_numerical_precision_in_comm': 'fp32',
  'tensor_parallelism': 1,
  'pipeline_parallelism': 1,
  'context_parallelism': 1,
  'expert_parallelism': 1,
  'micro_batch_size': 1,
  'config_filename': 'llama31_8b.yaml',
}
_SAMPLES_AN_EVAL = 12288 * 3


def write(
  root: pathlib.Path, name: str = 'resnet', *, system_name: str = 'toy'
) -> pathlib.Path:
  """Writes one organisation's submission of one benchmark; returns it."""
  org = root / 'acme'
  describe(org / 'systems' / f'{system_name}.json', system_name=system_name)
  write_set(org / 'results' / system_name / name, name)
  return org


def write_set(folder: pathlib.Path, name: str = 'resnet', first: int = 0):
  """Writes as many good logs as make a result; `first` varies them."""
  folder.mkdir(parents=True)
  for run in range(_RUNS[name]):
    audit_logs.write(folder / f'result_{run}.txt', events(name, first + run))


def events(name: str = 'resnet', run: int = 0, evals: int = 10) -> list[Event]:
  """The events of a good log of the official benchmark."""
  if name == 'resnet':
    return audit_logs.good(
      run=run,
      size='reference',
      benchmark=benchmark.get('resnet'),
      qualities=(0.5,) * (evals - 1) + (0.7601,),
      ours=False,
    )
  made = [
    Event('cache_clear', True),
    Event('init_start', kind='INTERVAL_START'),
    *(Event(key, value) for key, value in _LLAMA.items()),
    Event('seed', 1000 + run),
    Event('init_stop', kind='INTERVAL_END'),
    Event('run_start', kind='INTERVAL_START'),
    *_course(5),
    Event('run_stop', metadata={'status': 'success'}, kind='INTERVAL_END'),
  ]
  now = audit_logs.NOON + run * 86_400_000
  for event in made:
    now += 800_000 if event.key == 'block_stop' else 10 + run
    event.time_ms = now
  return made


def describe(path: pathlib.Path, **changes) -> dict[str, str]:
  """Writes a system description in order, but for the changes."""
  fields = {
    **dict.fromkeys(system.FIELDS, ''),
    'submitter': 'acme',
    'division': 'closed',
    'status': 'Available on-premise',
    'system_name': 'toy',
    'number_of_nodes': '1',
    'host_processors_per_node': '2',
    'accelerators_per_node': '1',
    'accelerator_model_name': 'NVIDIA H200',
    **changes,
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(fields))
  return fields


def officially_accepted(org: pathlib.Path, ruleset: str) -> bool:
  """The verdict of the official package checker; a crash is a rejection.

  It writes files of its own into the folder.
  """
  mlp_compliance.enqueued_configs.clear()  # else stale after an exception
  folder = str(org)
  logging.disable(logging.CRITICAL)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      return package_checker.check_systems(
        folder, 'training', ruleset
      ) and package_checker.check_training_result_files(
        folder, 'training', ruleset, True, False, False, False, False
      )
  except Exception:  # pylint: disable=broad-exception-caught
    return False
  finally:
    logging.disable(logging.NOTSET)


def _course(evals: int) -> Sequence[Event]:
  made = []
  for number in range(evals):
    at = {'samples_count': number * _SAMPLES_AN_EVAL}
    end = {'samples_count': (number + 1) * _SAMPLES_AN_EVAL}
    quality = 5.5 - 0.5 * number if number + 1 < evals else 3.29
    made += [
      Event('block_start', None, dict(at), kind='INTERVAL_START'),
      Event('block_stop', None, dict(end), kind='INTERVAL_END'),
      Event('eval_start', None, dict(end), kind='INTERVAL_START'),
      Event('eval_accuracy', quality, dict(end)),
      Event('eval_stop', None, dict(end), kind='INTERVAL_END'),
    ]
  return made
