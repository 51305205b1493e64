"""Tests of the run log."""

import inspect
import json
import os

from absl.testing import absltest, parameterized
import numpy as np

from suite import run_log
from suite.clock import Clock
from suite.run_log import RunLog

_GOOD = (
  ('start', 'init_start', None),
  ('event', 'cache_clear', None),
  ('event', 'seed', None),
  ('end', 'init_stop', None),
  ('start', 'run_start', None),
  ('start', 'block_start', None),
  ('end', 'block_stop', None),
  ('start', 'eval_start', None),
  ('event', 'eval_accuracy', None),
  ('end', 'eval_stop', None),
  ('end', 'run_stop', {'status': 'success', 'reason': 'target met'}),
)


class RunLogTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')

  def log(self, path=None):
    return RunLog(path, Clock())

  def write(self, log, lines):
    for method, key, metadata in lines:
      if method == 'event':
        log.event(key, 1)
      else:
        getattr(log, method)(key, metadata)

  def lines(self):
    with open(self.path, encoding='utf-8') as file:
      return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]

  def test_a_line_holds_the_time_the_value_and_its_caller(self):
    log = self.log(self.path)
    log.start('init_start', at=12.3456)
    line = inspect.currentframe().f_lineno + 1
    log.event('seed', 7, {'note': 'x'})
    first, second = self.lines()
    self.assertEqual(first['time_ms'], 12345)
    self.assertEqual(first['event_type'], 'INTERVAL_START')
    self.assertEqual(second['value'], 7)
    self.assertEqual(
      second['metadata'],
      {'file': 'tests/suite/run_log_test.py', 'lineno': line, 'note': 'x'},
    )

  def test_each_line_is_written_once_however_many_logs_there_were(self):
    for _ in range(3):
      self.log().start('init_start')
    self.write(self.log(self.path), _GOOD)
    self.assertLen(self.lines(), len(_GOOD))

  @parameterized.parameters(*_GOOD[2:])
  def test_a_line_before_its_stage_is_refused(self, method, key, metadata):
    with self.assertRaisesRegex(RuntimeError, key):
      self.write(self.log(), [(method, key, metadata)])

  @parameterized.parameters(*_GOOD[:-1])
  def test_a_line_after_its_stage_is_refused(self, method, key, metadata):
    log = self.log()
    self.write(log, _GOOD)
    with self.assertRaisesRegex(RuntimeError, key):
      self.write(log, [(method, key, metadata)])

  def test_nothing_follows_run_stop(self):
    log = self.log()
    self.write(log, _GOOD)
    self.assertTrue(log.stopped)
    for line in _GOOD:
      with self.assertRaises(RuntimeError):
        self.write(log, [line])

  def test_settings_belong_before_init_stop(self):
    log = self.log()
    self.write(log, _GOOD[:4])
    with self.assertRaisesRegex(RuntimeError, 'global_batch_size'):
      log.event('global_batch_size', 8)

  def test_a_run_can_be_aborted_before_its_clock_starts(self):
    log = self.log(self.path)
    log.start('init_start')
    log.end('run_stop', {'status': 'aborted', 'reason': 'SIGTERM'})
    self.assertEqual(run_log.ending(self.path)['status'], 'aborted')

  @parameterized.parameters(np.float32(1.0), float('nan'), object())
  def test_what_mllog_would_drop_or_garble_is_refused(self, value):
    log = self.log()
    log.start('init_start')
    with self.assertRaisesRegex((TypeError, ValueError), 'seed'):
      log.event('seed', value)

  def test_an_existing_file_is_never_appended_to(self):
    self.write(self.log(self.path), _GOOD)
    with self.assertRaises(FileExistsError):
      self.log(self.path)
    self.assertLen(self.lines(), len(_GOOD))

  def test_another_process_than_the_first_writes_nothing(self):
    self.write(self.log(None), _GOOD)
    self.assertFalse(os.path.exists(self.path))

  def test_the_ending_of_a_log_without_one_is_none(self):
    self.assertIsNone(run_log.ending(self.path))
    self.write(self.log(self.path), _GOOD[:5])
    self.assertIsNone(run_log.ending(self.path))


if __name__ == '__main__':
  absltest.main()
