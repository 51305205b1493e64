"""What the loop logs for the reference passes the official checker."""

import dataclasses
import json
import os

from absl.testing import absltest, parameterized
from mlperf_logging.compliance_checker import mlp_compliance

from launch import flags, train
from suite import audit, benchmark, hparams, loop, sharding
from suite.checkpoint import Checkpoints
from suite.clock import Clock
from suite.hparams import Division
from suite.run_log import RunLog
from tests.launch import entrypoint_flags
from tests.suite import fake_task

_RULESET = '4.0.0'


def setUpModule():
  global _flags
  _flags = entrypoint_flags.define(train)


def tearDownModule():
  entrypoint_flags.remove(_flags)


def _official(path: str) -> bool:
  """The verdict of mlperf-logging's compliance checker, on one log."""
  mlp_compliance.enqueued_configs.clear()  # else stale after an exception
  checker = mlp_compliance.make_checker('training', _RULESET, False, False)
  config = f'training_{_RULESET}/common.yaml'
  return mlp_compliance.main(path, config, checker)[0]


class OfficialCheckerTest(parameterized.TestCase):
  def log(self, changes, qualities, *, startup=10.0, ends_at=None):
    """Drives the real loop with the reference's settings and a fake task.

    With `ends_at` the run ends at that tick, and goes on in a second one.
    """
    resnet = benchmark.get('resnet')
    size = resnet.size('reference')
    hp = hparams.override(size.hparams, changes, Division.CLOSED)
    request = flags.Request(resnet, 'reference', size, Division.CLOSED, hp)
    blocks = [
      dataclasses.replace(block, steps=2)
      for block in resnet.task(hp, size.data).blocks()
    ]
    path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')
    now = fake_task.FakeClock()
    clock = Clock(now)
    log = RunLog(path, clock)
    log.start('init_start', at=clock.created)
    log.event('cache_clear', True)
    for key, value in train.settings(request, 1234).items():
      log.event(key, value)
    now.time += startup
    if ends_at is not None:
      with self.assertRaises(loop.Interrupted):
        self.train(path, size.target, qualities, blocks, log, clock, ends_at)
      log.close()
      now.time += 500.0
      clock = Clock(now)
      log = RunLog(path, clock, suspended=True)
      now.time += startup
    result = self.train(path, size.target, qualities, blocks, log, clock)
    log.close()
    return path, result

  def train(self, path, target, qualities, blocks, log, clock, ends_at=None):
    class Ends(loop.Watcher):
      def interrupted(self, tick):
        return loop.Interrupted('SIGTERM', 15) if tick == ends_at else None

    mesh = sharding.make_mesh()
    checkpoints = Checkpoints(os.path.join(os.path.dirname(path), 'saved'))
    return loop.run(
      fake_task.FakeTask(qualities, blocks=blocks),
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

  @parameterized.parameters(1, 3)
  def test_a_run_that_was_cut_off_and_went_on_passes(self, tick):
    # In the first block, and in the first eval.
    path, result = self.log({}, [0.2, 0.7, 0.7591], ends_at=tick)
    self.assertEqual(result.status, 'success')
    self.assertGreater(result.timed, 500)
    self.assertTrue(_official(path))
    self.assertEqual(
      [f for f in audit.check_log(path) if f.severity == audit.ERROR], []
    )

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
