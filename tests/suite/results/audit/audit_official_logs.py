"""Logs that pass, made from the rule files of every official benchmark.

For each key that the files ask for, values are tried until its own conditions
hold. The official checker has the last word on each log: see the tests.
"""

import ast
from collections.abc import Iterator
import dataclasses
import datetime
import functools
import itertools
import logging
import math
import pathlib
import re
from typing import Any

from mlperf_logging.compliance_checker import mlp_compliance

from suite import rounds
from suite.results.audit import settings
from suite.results.audit.official import bounds, expressions, rules
from suite.results.audit.record import TIMELINE, Record
from tests.suite.results.audit.audit_logs import MINUTE, NOON, Event, write

# What the rulesets accept and then raise on, or can't be passed at all.
_BROKEN = frozenset({
  ('3.0.0', 'gpt3', 'open'), ('3.1.0', 'gpt3', 'open'),  # no file
})  # fmt: skip
# Metadata of settings that some rules ask for.
_METADATA = {
  'max_sequence_length': {'method': 'truncate'},
  'averaged_validation_loss': {'samples_count': 262144},
}
_VALUES = (1, 0, 0.5, 'x', True, [40, 50], [1, 1], 16, 0.02, 1e-6)


@dataclasses.dataclass(frozen=True)
class Case:
  """One way through the files of a ruleset."""

  ruleset: str
  benchmark: str
  division: str
  optimizer: str = ''

  @property
  def files(self) -> list[rules.File]:
    """The files that hold a log of this case, in their order."""
    names = ['common', f'{self.division}_common',
             f'{self.division}_{self.benchmark}']  # fmt: skip
    if self.optimizer:
      names.append(f'{self.division}_{self.benchmark}_{self.optimizer}')
    found = [self._load(name) for name in names]
    # Version 1.1.0 sends open logs to the files of 1.0.0.
    pairs = zip(found, names, strict=True)
    return [file or self._load(name, '1.0.0') for file, name in pairs]

  def _load(self, name: str, ruleset: str = '') -> rules.File | None:
    return rules.load(f'training_{ruleset or self.ruleset}/{name}.yaml')

  def __str__(self) -> str:
    parts = (self.ruleset, self.benchmark, self.division, self.optimizer)
    return '_'.join(part for part in parts if part)


@functools.cache
def cases() -> tuple[Case, ...]:
  """Every ruleset, benchmark and division that a log can pass, from 0.7.0."""
  return tuple(itertools.chain(*(_of(r) for r in rules.rulesets()[1:])))


def official_accepts(path: pathlib.Path, ruleset: str) -> bool:
  """The verdict of mlperf-logging's checker; a traceback is a refusal."""
  # The queue is global and keeps what an exception left in it.
  mlp_compliance.enqueued_configs.clear()
  checker = mlp_compliance.make_checker('training', ruleset, True, False)
  before = logging.root.manager.disable
  logging.disable(logging.ERROR)
  try:
    config = f'training_{ruleset}/common.yaml'
    return mlp_compliance.main(str(path), config, checker)[0]
  except Exception:  # whatever it dies of
    return False
  finally:
    logging.disable(before)


@functools.cache
def _events(case: Case) -> tuple[Event, ...]:
  values = list(_settings(case))
  events = [
    Event('cache_clear', True),
    Event('init_start', kind='INTERVAL_START'),
    *values,
    Event('seed', 7),
    *(Event('weights_initialization', None, {'tensor': name})
      for name in _tensors(case)),
    Event('init_stop', kind='INTERVAL_END'),
    Event('run_start', kind='INTERVAL_START'),
    *_course(case, {event.key: event.value for event in values}),
    Event('run_stop', None, {'status': 'success'}, kind='INTERVAL_END'),
  ]  # fmt: skip
  now = _last_day(case.ruleset)
  for event in events:
    now += MINUTE if event.key.endswith('_stop') else 10
    event.time_ms = now
  return tuple(events)


def _last_day(ruleset: str) -> float:
  """Noon of the last day of the round; a later one where that is not known."""
  day = rounds._ENDS.get(rounds.of_ruleset(ruleset), '2025-11-01')
  noon = datetime.datetime.fromisoformat(f'{day}T12:00+00:00')
  return noon.timestamp() * 1000


def minimal(case: Case) -> list[Event]:
  """The events of a log that holds what the rules ask for."""
  return [
    dataclasses.replace(event, metadata=dict(event.metadata))
    for event in _events(case)
  ]


def write_minimal(path: pathlib.Path, case: Case) -> pathlib.Path:
  """Writes it."""
  return write(path, minimal(case))


def _of(ruleset: str) -> Iterator[Case]:
  common = rules.load(f'training_{ruleset}/common.yaml')
  for division in ('closed', 'open'):
    file = rules.load(f'training_{ruleset}/{division}_common.yaml')
    named = (file or common).rules.get('submission_benchmark')
    named = named or common.rules['submission_benchmark']
    for name in bounds.listed(named.checks[0].tree):
      file = rules.load(f'training_{ruleset}/{division}_{name}.yaml')
      if file is None or (ruleset, name, division) in _BROKEN:
        continue
      variants = _variants(ruleset, f'{division}_{name}')
      for optimizer in variants or ('',):
        yield Case(ruleset, name, division, optimizer)


def _variants(ruleset: str, name: str) -> list[str]:
  """Optimizers with a file of their own."""
  return [
    optimizer
    for optimizer in ('sgd', 'lars')
    if rules.load(f'training_{ruleset}/{name}_{optimizer}.yaml')
  ]


def _settings(case: Case) -> Iterator[Event]:
  """An event for every key that is asked for, outside the timeline."""
  chosen: dict[str, Any] = {
    'submission_benchmark': case.benchmark,
    'submission_division': case.division,
    'submission_status': 'onprem',
    'submission_org': 'acme',
    'submission_platform': '1xCPU',
  }
  if case.optimizer:
    chosen['opt_name'] = case.optimizer
  merged = {}
  for file in case.files:
    state: dict[str, Any] = {}
    if not file.aggregates_by:
      expressions.run(file.begin, expressions.Scope(state))
    for rule in file.rules.values():
      if rule.key in (*TIMELINE, 'cache_clear', 'weights_initialization'):
        continue
      if (
        rule.required in (None, 'OPTIONAL')
        or rule.key == 'aggregated_eval_accuracy'
      ):
        continue
      value = _chosen(rule, state, chosen.get(rule.key))
      merged[rule.key] = value
  merged.pop('seed', None)
  known = settings._SAMPLES.get(case.benchmark, (None, None))
  for key, allowed in zip(settings.COUNTS, known, strict=True):
    if key in merged and allowed:
      merged[key] = allowed[-1]
  for key, value in merged.items():
    yield Event(key, value, dict(_METADATA.get(key, {})))


def _chosen(rule: rules.Rule, state: dict, wanted: Any) -> Any:
  candidates = [wanted] if wanted is not None else _candidates(rule, state)
  for value in candidates:
    trial = dict(state)
    scope = _scope(rule.key, value, _METADATA.get(rule.key, {}), trial)
    try:
      checks = [*rule.checks, *filter(None, (rule.at_least_one,))]
      if all(expressions.value(check.tree, scope) for check in checks):
        expressions.run(rule.post, scope)
        state.update(trial)
        return value
    except expressions.FaultError:
      continue
  raise AssertionError(f'Expected a value that passes {rule.name}, found none.')


def _candidates(rule: rules.Rule, state: dict) -> Iterator[Any]:
  yield from _formulas(rule.key, state)
  for check in rule.checks:
    for node in ast.walk(check.tree):
      if isinstance(node, ast.Constant) and node.value not in ('value', ''):
        yield node.value
  yield from _VALUES


def _formulas(key: str, state: dict) -> Iterator[Any]:
  """Values that follow from others: see the rule files."""
  size = state.get('global_batch_size') or 512
  warmup = state.get('opt_learning_rate_warmup_steps') or 0
  known = {
    'global_batch_size': (512, 15360, 8192),
    'opt_base_learning_rate': (
      state.get('learning_rate'),
      state.get('lr_min'),
      size * 8e-5 / 1152,
      2.4e-5 * math.sqrt(size / 16384),
    ),
    'opt_sparse_base_learning_rate': (
      state.get('opt_base_learning_rate'),
      state.get('lr_min'),
    ),
    'opt_gradient_clip_norm': (0.125 * math.sqrt(256 / size),),
    'opt_learning_rate_decay_steps': (
      1_200_000 - warmup,
      12000 - warmup,
      math.ceil(1_200_000 * 1152 / size) - warmup,
    ),
    'evaluation_frequency': (state.get('eval_interval_samples'),),
    'train_samples': (state.get('train_samples'),),
    'num_prompts_per_step': (size // 16,),
  }
  yield from (value for value in known.get(key, ()) if value is not None)


def _scope(key: str, value: Any, metadata: dict, state: dict):
  record = Record(1, NOON, 'POINT_IN_TIME', key, value, metadata)
  scope = expressions.Scope(state)
  scope.move_to(record)
  return scope


def _tensors(case: Case) -> list[str]:
  trees = [check.tree for file in case.files for check in file.end]
  return [name for tree in trees for name in bounds.listed(tree)]


def _course(case: Case, settings: dict[str, Any]) -> Iterator[Event]:
  size = settings.get('global_batch_size', 512)
  samples = _first_eval(case, size)
  place = {'epoch_num': 1, 'samples_count': samples, 'step_num': 1}
  block = {'first_epoch_num': 1, 'samples_count': samples, 'step_num': 1}
  yield Event('block_start', None, {**block, 'epoch_count': 1},
              kind='INTERVAL_START')  # fmt: skip
  yield Event('block_stop', None, block, kind='INTERVAL_END')
  yield Event('eval_start', None, place, kind='INTERVAL_START')
  for number in (1, 2) if case.files[-1].aggregates_by else ():
    at = {name: number * value for name, value in place.items()}
    yield Event('eval_accuracy', 89.0, {**at, 'metric': 'FID'})
    yield Event('eval_accuracy', 0.16, {**at, 'metric': 'CLIP'})
  if not case.files[-1].aggregates_by:
    yield Event('eval_accuracy', _quality(case), place)
  yield Event('eval_stop', None, place, kind='INTERVAL_END')


def _first_eval(case: Case, size: int) -> int:
  """Some rules say when the first eval is due."""
  file = case.files[-1]
  state: dict[str, Any] = {}
  if not file.aggregates_by:
    expressions.run(file.begin, expressions.Scope(state))
  if 'global_batch_size' in file.rules:
    scope = _scope('global_batch_size', size, {}, state)
    expressions.run(file.rules['global_batch_size'].post, scope)
  due = state.get('first_eval_samples', state.get('next_validation_samples'))
  if due is None and re.search('first', str(file.rules), re.IGNORECASE):
    due = size * math.floor(42 + 24576 / size)
  return due or 512000


def _quality(case: Case) -> Any:
  rules_ = [file.rules.get('eval_accuracy') for file in reversed(case.files)]
  rule = next((r for r in rules_ if r and r.at_least_one), None)
  if rule is None:
    return 0.5
  state: dict[str, Any] = {}
  if not case.files[-1].aggregates_by:
    expressions.run(case.files[-1].begin, expressions.Scope(state))
  state['global_batch_size'] = 512
  values = (0.5, 0.7, 0.76, 0.91, 0.35, 0.05, 2.68, 3.0, 5.0, 0.25, 0.8,
            0.803, 0.73, {'BBOX': 0.38, 'SEGM': 0.34})  # fmt: skip
  for value in values:
    scope = _scope('eval_accuracy', value, {}, state)
    try:
      if expressions.value(rule.at_least_one.tree, scope):
        return value
    except expressions.FaultError:
      continue
  raise AssertionError(f'Expected a quality that passes {rule.name}.')
