"""Reports of the logs of rounds v0.5 and v0.6.

The forms of the lines are those of training_results_v0.5 (NVIDIA's resnet,
Google's ssd, Intel's ncf) and of training_results_v0.6 (NVIDIA's transformer
and maskrcnn, Google's ssd); numbers are made up.
"""

import contextlib
import io
import pathlib

from absl.testing import absltest, parameterized

from launch import report
from suite.results import old_logs
from suite.results.report import from_logs
from tests.suite.results.audit import audit_logs
from tests.suite.results.report.report_test import Document

_START = 1_541_670_088.967
_EVALS = (0.2777, 0.6, 0.7411, 0.7495)


def _v05(number: int, evals=_EVALS, ending=': {"success": true}') -> str:
  lines = [
    (-5, 'run_clear_caches'),
    (0, 'run_start'),
    (0, f'run_set_random_seed: {53480 + number}'),
    (1, 'model_hp_batch_norm: {"scale": true, "momentum": 0.9}'),
    (1, 'input_batch_size: 256'),
    (2, 'opt_name: "sgd"'),
    (2, 'opt_learning_rate: 1.8'),
    (2, 'opt_learning_rate_warmup_epochs: "DEFERRED: 3b6805e6-2bb9"'),
    (3, 'eval_target: 0.749'),
  ]
  for place, quality in enumerate(evals):
    at = 400 * (place + 1) + 10 * number
    epoch = 3 + 4 * place
    lines += [
      (at - 390, f'train_epoch: {epoch}'),
      (at, 'eval_start'),
      (at + 4, f'eval_accuracy: {{"value": {quality}, "epoch": {epoch}}}'),
      (at + 5, 'eval_stop'),
    ]
  lines.append((at + 10, f'run_stop{ending}'))
  return ''.join(
    f'0: :::MLPv0.5.0 resnet {_START + at:.9f} (train.py:49) {text}\n'
    for at, text in lines
  )


def _v06(number: int, name: str, evals, status: str = 'success') -> str:
  where = '"file": "train.py", "lineno": 7'
  lines = [
    (None, 'submission_benchmark', f'"{name}"', ''),
    (None, 'submission_division', '"closed"', ''),
    (None, 'submission_org', '"google"', ''),
    (None, 'submission_platform', '"tpu-v3-32"', ''),
    (-30, 'init_start', 'null', ''),
    (-25, 'global_batch_size', '1024', ''),
    (-25, 'opt_base_learning_rate', '0.003', ''),
    (-25, 'seed', f'{number}', ''),
    (-2, 'init_stop', 'null', ''),
    (0, 'run_start', 'null', ''),
  ]
  for place, quality in enumerate(evals, start=1):
    at, epoch = 300 * place + number, f', "epoch_num": {place}'
    block = f', "first_epoch_num": {place}'
    lines += [
      (at - 299, 'block_start', 'null', f'{block}, "epoch_count": 1'),
      (at - 20, 'eval_start', 'null', epoch),
      (at - 2, 'eval_accuracy', quality, epoch),
      (at - 1, 'eval_stop', 'null', epoch),
      (at - 1, 'block_stop', 'null', block),
    ]
  lines.append((at, 'run_stop', 'null', f', "status": "{status}"'))
  return ''.join(
    f':::MLL {0.0 if at is None else _START + at:.3f} {key}: '
    f'{{"value": {value}, "metadata": {{{where}{more}}}}}\n'
    for at, key, value, more in lines
  )


class OldReportTest(parameterized.TestCase):
  """Sets of five runs."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self) / 'resnet'
    self.directory.mkdir()

  def write(self, texts):
    for number, text in enumerate(texts):
      (self.directory / f'result_{number}.txt').write_text(text)

  def page(self):
    with contextlib.redirect_stdout(io.StringIO()):
      path = report.write(self.directory)
    return Document(pathlib.Path(path).read_text()).text

  def test_a_report_of_v05_shows_score_curves_and_settings(self):
    self.write(map(_v05, range(5)))
    text = self.page()
    self.assertIn('mean of 3 of 5 runs', text)
    self.assertIn('5 of 5 reached the target', text)
    self.assertIn('eval_accuracy is at least 0.749', text)
    self.assertIn('opt_learning_rate', text)
    self.assertIn('logs of v0.5 are read for their times', text)
    evals = (self.directory / 'report' / 'evals.csv').read_text()
    self.assertLen(evals.splitlines(), 1 + 5 * len(_EVALS))
    self.assertIn('0.7411', evals)

  def test_the_numbers_of_v05_are_those_of_the_logs(self):
    self.write(map(_v05, range(5)))
    found, score = from_logs.read(self.directory)
    last = found[4]
    self.assertAlmostEqual(score.score_seconds, 1610 + 20, places=3)
    self.assertAlmostEqual(last.timed.seconds, 1650, places=3)
    self.assertAlmostEqual(last.timed.parts['evaluation'], 20, places=3)
    self.assertEqual([e.at['epoch_num'] for e in last.evals], [3, 7, 11, 15])
    self.assertAlmostEqual(last.evals[0].seconds, 444, places=3)
    self.assertEqual(last.seed, 53484)
    settings = {name: s.value for name, s in last.hyperparameters.items()}
    self.assertEqual(settings['opt_name'], 'sgd')
    self.assertNotIn('opt_learning_rate_warmup_epochs', settings)  # deferred
    self.assertNotIn('model_hp_batch_norm', settings)

  @parameterized.parameters(': {"success": false}', ': {"success": "false"}')
  def test_a_run_of_v05_that_failed_counts_as_the_slowest(self, ending):
    self.write([*map(_v05, range(4)), _v05(4, _EVALS[:3], ending)])
    found, score = from_logs.read(self.directory)
    self.assertAlmostEqual(score.score_seconds, 1630, places=3)  # 1, 2 and 3
    self.assertEqual(found[4].status, 'aborted')
    self.assertIsNone(found[4].time_to_quality)

  def test_without_a_status_the_target_decides(self):
    self.write([*(_v05(n, ending='') for n in range(4)),
                _v05(4, _EVALS[:3], '')])  # fmt: skip
    found, _ = from_logs.read(self.directory)
    self.assertEqual([r.status for r in found], ['success'] * 4 + ['aborted'])

  def test_a_report_of_v06(self):
    self.write(_v06(n, 'ssd', ('0.11', '0.19', '0.231')) for n in range(5))
    text = self.page()
    self.assertIn('eval_accuracy is at least 0.23', text)
    self.assertIn('tpu-v3-32', text)
    found, score = from_logs.read(self.directory)
    self.assertAlmostEqual(score.score_seconds, 902, places=3)
    self.assertAlmostEqual(found[0].startup.seconds, 30, places=3)
    self.assertAlmostEqual(found[0].timed.parts['evaluation'], 57, places=3)

  def test_two_metrics_of_v06_and_the_other_name_of_the_benchmark(self):
    value = '{{"accuracy": {{"BBOX": {}, "SEGM": {}}}}}'
    evals = [value.format(0.2, 0.19), value.format(0.3775, 0.341)]
    self.write(_v06(n, 'mask', evals) for n in range(5))
    found, _ = from_logs.read(self.directory)
    self.assertEqual(found[0].benchmark, 'maskrcnn')
    self.assertEqual(found[0].evals[-1].quality, {'BBOX': 0.3775,
                                                  'SEGM': 0.341})  # fmt: skip
    self.assertTrue(found[0].target.met_by(found[0].evals[-1].quality))

  def test_qualities_that_are_texts(self):
    self.write(
      _v06(n, 'transformer', ('"1.431602705270052"', '"25.0778"'))
      for n in range(10)
    )
    found, _ = from_logs.read(self.directory)
    self.assertEqual(found[0].evals[-1].quality, {'eval_accuracy': 25.0778})

  @parameterized.parameters(
    ('v0.5', 'gnmt', 21.8), ('v0.6', 'gnmt', 24.0), ('v0.5', 'ncf', 0.635),
    ('v0.6', 'resnet', 0.759), ('v0.5', 'minigo', 0.4),
  )  # fmt: skip
  def test_targets_are_those_of_the_round(self, name, benchmark, bound):
    log = old_logs.OldLog(name, benchmark, None, None, None, None, 0.0, (), {})
    self.assertEqual(log.target.at_least, {'eval_accuracy': bound})

  def test_several_systems_of_old_rounds_stand_side_by_side(self):
    self.write(map(_v05, range(5)))
    other = self.directory.parent / 'other'
    other.mkdir()
    for number in range(5):
      (other / f'result_{number}.txt').write_text(_v05(number + 5))
    out = self.directory.parent / 'out'
    with contextlib.redirect_stdout(io.StringIO()):
      path = report.write_several(out, [str(self.directory), f'rival={other}'])
    self.assertIn('rival', Document(pathlib.Path(path).read_text()).text)

  @parameterized.parameters(('resnet', 'unknown'), ('run_start', 'x'))
  def test_logs_that_hold_no_run_are_refused_in_words(self, old, new):
    self.write([_v05(0).replace(old, new)])
    with self.assertRaisesRegex(ValueError, 'of a benchmark of v0.5'):
      from_logs.read(self.directory)

  @parameterized.parameters(
    '[' * 100_000, '{"epoch": NaN, "value": NaN}', '"x"', '{"value": [1e400]}',
    'no json', '{"value": {"a": {"b": 1}}}',
  )  # fmt: skip
  def test_hostile_values_do_no_harm(self, value):
    text = _v05(0).replace('eval_accuracy: {"value": 0.6, "epoch": 7}',
                           f'eval_accuracy: {value}')  # fmt: skip
    self.write([text] * 5)
    found, _ = from_logs.read(self.directory)
    self.assertLen(found, 5)


if __name__ == '__main__':
  absltest.main()
