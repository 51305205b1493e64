"""Logs of the loop for the reference pass the official checker."""

import dataclasses
import json
import os

from absl.testing import absltest, parameterized
from mlperf_logging.compliance_checker import mlp_compliance
import numpy as np

from launch import train, training
from launch.support import run_flags
from suite import benchmark, hparams
from suite.clock import Clock
from suite.hparams import Division
from suite.results import audit
from suite.run import loop, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.run_log import RunLog
from suite.run.task import Facts
from tests.launch import entrypoint_flags
from tests.suite.run import fake_task


def setUpModule():
  global _flags
  _flags = entrypoint_flags.define(train)


def tearDownModule():
  entrypoint_flags.remove(_flags)


# Rulesets in which places of 3D U-Net are epochs.
_EPOCHS = ('1.0.0', '1.1.0', '2.0.0', '2.1.0', '3.0.0')


def _official(path: str, ruleset: str = '4.0.0') -> bool:
  """The verdict of mlperf-logging's compliance checker, on one log."""
  mlp_compliance.enqueued_configs.clear()  # else stale after an exception
  checker = mlp_compliance.make_checker('training', ruleset, False, False)
  config = f'training_{ruleset}/common.yaml'
  return mlp_compliance.main(path, config, checker)[0]


class OfficialCheckerTest(parameterized.TestCase):
  def log(
    self,
    changes,
    qualities,
    *,
    name='resnet',
    size_name='reference',
    facts=lambda task: Facts(),
    startup=10.0,
    ends_at=None,
    statistics=(),
  ):
    """Drives the real loop with the reference's settings and a fake task.

    With `ends_at` the run ends at that tick, and continues in a second one.
    """
    found = benchmark.get(name)
    size = found.size(size_name)
    hp = hparams.override(size.hparams, changes, Division.CLOSED)
    request = run_flags.Request(found, size_name, size, Division.CLOSED, hp)
    task = found.task(hp, size.data)
    blocks = [
      dataclasses.replace(block, steps=2) for block in task.blocks(facts(task))
    ]
    path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')
    now = fake_task.FakeClock()
    clock = Clock(now)
    log = RunLog(path, clock)
    log.start('init_start', at=clock.created)
    log.event('cache_clear', True)
    beside = hparams.beside(hp)
    settings = training.settings(request, 1234) | facts(task).logged
    for key, value in settings.items():
      log.event(key, value, beside.get(key))
    now.time += startup
    if ends_at is not None:
      with self.assertRaises(loop.Interrupted):
        self.train(path, size.target, qualities, blocks, log, clock, ends_at)
      log.close()
      now.time += 500.0
      clock = Clock(now)
      log = RunLog(path, clock, suspended=True)
      now.time += startup
    result = self.train(
      path,
      size.target,
      qualities,
      blocks,
      log,
      clock,
      tensors=task.tensors,
      statistics=statistics,
    )
    log.close()
    return path, result

  def train(
    self,
    path,
    target,
    qualities,
    blocks,
    log,
    clock,
    ends_at=None,
    *,
    tensors=(),
    statistics=(),
  ):
    class Ends(loop.Watcher):
      def interrupted(self, tick):
        return loop.Interrupted('SIGTERM', 15) if tick == ends_at else None

    mesh = sharding.make_mesh()
    checkpoints = Checkpoints(os.path.join(os.path.dirname(path), 'saved'))
    task = fake_task.FakeTask(qualities, blocks=blocks)
    task.tensors = tensors
    task.statistics = dict(statistics)
    task.metrics = target.metrics
    return loop.run(
      task,
      Facts(),
      target,
      fake_task.data_for(clock, mesh),
      mesh=mesh,
      seed=1234,
      log=log,
      clock=clock,
      watcher=Ends(),
      checkpoints=checkpoints,
    )

  @parameterized.parameters(
    {},
    {'opt_name': 'sgd', 'weight_decay': '5e-5'},
    {'global_batch_size': '3264', 'model_bn_span': '204', 'eval_offset': '0'},
  )
  def test_the_reference_configuration_passes(self, **changes):
    path, result = self.log(changes, [0.2, 0.7, 0.7591])
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path))

  @parameterized.parameters(
    {},
    {'opt_name': 'lazy_adam', 'length_method': 'truncate', 'beta_2': '0.98'},
    {'batching': 'packing', 'global_batch_size': '524288',
     'max_sequence_length': '80', 'warmup_steps': '1107'},
  )  # fmt: skip
  def test_the_transformer_passes_by_the_rules_of_its_last_round(
    self, **changes
  ):
    path, result = self.translation(changes, [0.1, 0.2, 0.2501])
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path, '0.7.0'))
    findings = audit.examine_log(path).findings
    self.assertEmpty([str(f) for f in audit.errors(findings)])

  @parameterized.parameters(
    {},
    {'global_batch_size': '2048', 'base_learning_rate': '2e-3',
     'remain_steps': '6453', 'decay_interval': '809',
     'max_sequence_length': '75', 'gradient_accumulation_steps': '2'},
    {'alt_warmup': 'false', 'warmup_steps': '0', 'alt_decay': 'false'},
  )  # fmt: skip
  def test_gnmt_passes_by_the_rules_of_its_last_round(self, **changes):
    path, result = self.translation(changes, [0.1, 0.2, 0.2401], 'gnmt')
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path, '0.7.0'))
    findings = audit.examine_log(path).findings
    self.assertEmpty([str(f) for f in audit.errors(findings)])

  def test_a_transformer_that_says_not_what_became_of_long_pairs_fails(self):
    path, _ = self.translation({}, [0.2501])
    with open(path, encoding='utf-8') as file:
      text = file.read()
    with open(path, 'w', encoding='utf-8') as file:
      file.write(text.replace('"method": "discard"', '"method": "ignore"'))
    self.assertFalse(_official(path, '0.7.0'))
    findings = audit.errors(audit.examine_log(path).findings)
    self.assertTrue(any('max_sequence_length' in str(f) for f in findings))

  def translation(self, changes, qualities, name='transformer'):
    lengths = np.full((5000, 2), 9)
    return self.log(
      changes,
      qualities,
      name=name,
      facts=lambda task: task.facts_of(lengths),
    )

  @parameterized.parameters(1, 3)
  def test_a_run_that_was_cut_off_and_went_on_passes(self, tick):
    # In the first block, and in the first eval.
    path, result = self.log({}, [0.2, 0.7, 0.7591], ends_at=tick)
    self.assertEqual(result.status, 'success')
    self.assertGreater(result.timed, 500)
    self.assertTrue(_official(path))
    self.assertEqual(
      [
        f for f in audit.examine_log(path).findings if f.severity == audit.ERROR
      ],
      [],
    )

  @parameterized.product(
    ruleset=('1.1.0', '2.1.0'),
    changes=(
      {},
      {'train_batch_size': '8192', 'lr_boundaries': '100,5000',
       'lr_rates': '0.01,0.32,0.03', 'gradient_accumulation_steps': '2'},
    ),
  )  # fmt: skip
  def test_minigo_passes_by_the_rules_of_two_rounds(self, ruleset, changes):
    path, result = self.minigo(changes)
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path, ruleset))
    self.assertEmpty(
      [str(f) for f in audit.errors(audit.examine_log(path).findings)]
    )

  @parameterized.parameters(
    *(('v3.0', ruleset) for ruleset in _EPOCHS),
    ('reference', '3.1.0'),
    ('reference', '4.0.0'),
  )
  def test_unet3d_passes_by_the_rules_of_all_its_rounds(self, size, ruleset):
    path, result = self.log(
      {'global_batch_size': '84'}, [0.5, 0.91], name='unet3d', size_name=size
    )
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path, ruleset))
    found = audit.examine_log(path)
    self.assertEqual(audit.errors(found.findings), [])
    # A thousand epochs of two steps each, and as many samples.
    place = 1000 if size == 'v3.0' else 168_000
    self.assertEqual(result.evals[0].at, {'epoch_num': place})

  @parameterized.parameters(
    ('reference', '1.1.0', {}),
    ('v1.0', '1.0.0', {'decay_places': '44,55', 'warmup_factor': '1'}),
    ('v1.0', '0.7.0', {
      'global_batch_size': '2048', 'base_learning_rate': '0.29248',
      'warmup_steps': '1489', 'decay_places': '60,75', 'max_samples': '1',
      'weight_decay': '4e-5', 'model_bn_span': '16',
    }),
  )  # fmt: skip
  def test_ssd_passes_by_the_rules_of_its_rounds(self, name, ruleset, changes):
    self.passes('ssd', ruleset, changes, [0.1, 0.229, 0.23], size_name=name)

  @parameterized.parameters(
    ('3.1.0', {}),
    ('2.1.0', {
      'global_batch_size': '272', 'worker_images': '1',
      'base_learning_rate': '0.24', 'decay_steps': '5294,7058',
      'num_image_candidates': '1000', 'warmup_steps': '1800',
    }),
    ('1.1.0', {'decay_steps': '11000,14667'}),
    ('0.7.0', {}),
  )  # fmt: skip
  def test_mask_rcnn_passes_by_the_rules_of_its_rounds(self, ruleset, changes):
    """At 0.35 the masks are good enough, and the boxes are not."""
    self.passes('maskrcnn', ruleset, changes, [0.1, 0.35, 0.377])

  def test_minigo_with_too_few_games_fails(self):
    path, _ = self.minigo({}, games=8191)
    self.assertFalse(_official(path, '2.1.0'))
    findings = audit.errors(audit.examine_log(path).findings)
    self.assertTrue(any('actual_selfplay' in str(f) for f in findings))

  def minigo(self, changes, games=8200):
    return self.log(
      changes,
      [0.2, 0.4, 0.51],
      name='minigo',
      statistics={
        'actual_selfplay_games_per_generation': games,
        'podium_made_game_length': 210.5,
      },
    )

  @parameterized.product(
    ruleset=('0.7.0', '1.0.0', '1.1.0', '2.0.0', '2.1.0'),
    changes=(
      {},
      {'global_batch_size': '32768', 'base_learning_rate': '18',
       'sgd_base_learning_rate': '18', 'warmup_steps': '8000',
       'decay_start_steps': '70000', 'decay_steps': '30000'},
    ),
  )  # fmt: skip
  def test_dlrm_passes_by_the_rules_of_its_rounds(self, ruleset, changes):
    self.passes('dlrm', ruleset, changes, [0.79, 0.80249, 0.8025])

  @parameterized.product(
    ruleset=('3.0.0', '3.1.0', '4.0.0', '4.1.0', '5.0.0', '5.1.0', '6.0.0'),
    changes=(
      {},
      {'global_batch_size': '135168', 'base_learning_rate': '0.0034'},
    ),
  )  # fmt: skip
  def test_dlrm_dcnv2_passes_by_the_rules_of_its_rounds(self, ruleset, changes):
    self.passes('dlrm_dcnv2', ruleset, changes, [0.79, 0.8027, 0.80275])

  @parameterized.product(
    ruleset=('0.7.0', '1.0.0', '1.1.0', '2.0.0', '2.1.0', '3.0.0', '3.1.0',
             '4.0.0', '4.1.0', '5.0.0'),
    changes=(
      {},
      {'global_batch_size': '8192', 'base_learning_rate': '2.88293e-3',
       'training_steps': '600', 'warmup_steps': '287',
       'start_warmup_step': '-76', 'beta_1': '0.88', 'beta_2': '0.88',
       'weight_decay': '0.0166629', 'samples_per_row': '8',
       'mean_samples_per_row': '1.95'},
    ),
  )  # fmt: skip
  def test_bert_passes_by_the_rules_of_its_rounds(self, ruleset, changes):
    self.passes('bert', ruleset, changes, [0.4, 0.7199, 0.72])

  @parameterized.parameters(
    ('1.0.0', 'v1.0', {}),
    *(
      (ruleset, 'reference', changes)
      for ruleset in ('1.1.0', '2.0.0', '2.1.0', '3.0.0', '3.1.0')
      for changes in (
        {},
        {'global_batch_size': '6144', 'base_learning_rate': '0.014',
         'beta_1': '0.82', 'beta_2': '0.98', 'num_buckets': '6'},
      )
    ),
  )  # fmt: skip
  def test_rnnt_passes_by_the_rules_of_its_rounds(self, ruleset, size, changes):
    self.passes('rnnt', ruleset, changes, [5.7, 1.0, 0.058], size_name=size)

  def passes(self, name, ruleset, changes, qualities, **how):
    path, result = self.log(changes, qualities, name=name, **how)
    self.assertEqual(result.status, 'success')
    self.assertTrue(_official(path, ruleset))
    findings = audit.examine_log(path).findings
    self.assertEmpty([str(f) for f in audit.errors(findings)])

  def test_a_run_that_misses_the_target_fails(self):
    path, result = self.log({}, [0.2] * 12)
    self.assertEqual(result.status, 'aborted')
    self.assertFalse(_official(path))

  def test_a_startup_over_half_an_hour_fails(self):
    path, result = self.log({}, [0.2, 0.76], startup=1801.0)
    self.assertEqual(result.status, 'success')
    self.assertFalse(_official(path))

  def test_no_line_is_one_that_mllog_failed_to_encode(self):
    path, _ = self.log({}, [0.2, 0.76])
    with open(path, encoding='utf-8') as file:
      for line in file:
        json.loads(line.removeprefix(':::MLLOG '))


if __name__ == '__main__':
  absltest.main()
