"""Tests of the run log."""

import inspect
import json
import os
import resource
import signal

from absl.testing import absltest, parameterized
import numpy as np

from suite import files
from suite.clock import Clock
from suite.run import run_log
from suite.run.run_log import RunLog

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


class LogTestCase(parameterized.TestCase):
  """Writes logs and reads them."""

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


class RunLogTest(LogTestCase):
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
      {'file': 'tests/suite/run/run_log_test.py', 'lineno': line, 'note': 'x'},
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

  @parameterized.parameters('pipe', 'zeros', 'endless')
  def test_what_is_no_log_is_not_read(self, kind):
    signal.alarm(60)  # ends a test that waits for a pipe
    self.addCleanup(signal.alarm, 0)
    if kind == 'pipe':
      os.mkfifo(self.path)
    elif kind == 'zeros':
      os.symlink('/dev/zero', self.path)
    else:
      open(self.path, 'x').close()
      os.truncate(self.path, 1 << 40)  # no disk has it all
    self.assertIsNone(run_log.ending(self.path))
    for read in (
      run_log.mend,
      run_log.resumes,
      lambda path: run_log.complete(path, 'late'),
    ):
      with self.assertRaisesRegex(ValueError, f'Cannot read {self.path}'):
        read(self.path)

  @parameterized.parameters('[' * 100_000, '[]', '1', '{"key": []')
  def test_an_end_that_says_something_else_is_none(self, value):
    with open(self.path, 'w', encoding='utf-8') as file:
      file.write(f':::MLLOG {{"key": "run_stop", "metadata": {value}}}\n')
    self.assertIsNone(run_log.ending(self.path))
    self.assertEqual(run_log.mend(self.path), {})


class ResumedLogTest(LogTestCase):
  """A log that another process writes on."""

  def begun(self, *, upto=None, tail=''):
    log = self.log(self.path)
    self.write(log, _GOOD[:upto])
    log.close()
    with open(self.path, 'a', encoding='utf-8') as file:
      file.write(tail)

  def goes_on(self):
    log = RunLog(self.path, Clock(), suspended=True)
    log.resume({'step': 4}, at=12.5)
    return log

  def test_a_run_goes_on_with_a_line_that_says_so(self):
    self.begun(upto=6)
    log = self.goes_on()
    self.write(log, _GOOD[5:])
    lines = self.lines()
    self.assertEqual(lines[6]['key'], 'podium_resumed')
    self.assertEqual(lines[6]['time_ms'], 12500)
    self.assertEqual(lines[6]['metadata']['step'], 4)
    self.assertNotIn('mended', lines[6]['metadata'])
    self.assertLen(lines, len(_GOOD) + 2)
    self.assertEqual(run_log.resumes(self.path), [{'step': 4}])

  def test_a_log_that_has_not_gone_on_is_not_touched_and_takes_nothing(self):
    self.begun(upto=6, tail=':::MLLOG {"key"')
    with open(self.path, 'rb') as file:
      before = file.read()
    log = RunLog(self.path, Clock(), suspended=True)
    self.assertTrue(log.suspended)
    with self.assertRaisesRegex(RuntimeError, "this one is at 'suspended'"):
      log.start('block_start')
    log.close()
    with open(self.path, 'rb') as file:
      self.assertEqual(file.read(), before)

  def test_half_a_line_is_dropped_and_the_log_says_so(self):
    self.begun(upto=6, tail=':::MLLOG {"key"')
    self.goes_on()
    self.assertLen(self.lines(), 7)
    mended = self.lines()[-1]['metadata']['mended']
    self.assertEqual(mended, 'a last line of 15 characters was cut off')

  def test_a_line_that_lacks_its_end_alone_is_kept(self):
    self.begun(upto=6)
    with open(self.path, encoding='utf-8') as file:
      text = file.read()
    with open(self.path, 'w', encoding='utf-8') as file:
      file.write(text[:-1])
    self.goes_on()
    self.assertLen(self.lines(), 7)
    mended = self.lines()[-1]['metadata']['mended']
    self.assertEqual(mended, 'the last line had no end')

  def test_an_end_that_was_no_end_stays_under_another_name(self):
    self.begun(upto=6)
    run_log.complete(self.path, 'rank 2 is late')
    end = self.lines()[-1]
    self.write(self.goes_on(), _GOOD[5:])
    lines = self.lines()
    taken_back = {
      **end, 'key': 'podium_interrupted', 'event_type': 'POINT_IN_TIME'
    }  # fmt: skip
    self.assertEqual(lines[6], taken_back)
    self.assertEqual([r['key'] for r in lines].count('run_stop'), 1)
    self.assertEqual(run_log.ending(self.path)['status'], 'success')

  def test_better_knowledge_replaces_the_reason_and_not_the_time(self):
    self.begun(upto=6)
    run_log.complete(self.path, 'connection closed by peer')
    *lines, own = self.lines()
    self.assertTrue(run_log.complete(self.path, 'rank 2 was killed'))
    *rest, end = self.lines()
    self.assertEqual(rest, lines)
    self.assertEqual(end['time_ms'], own['time_ms'])
    self.assertEqual(end['metadata']['reason'], 'rank 2 was killed')

  def test_the_end_of_an_earlier_attempt_is_not_touched(self):
    self.begun(upto=6)
    run_log.complete(self.path, 'interrupted by SIGTERM')
    before = run_log.ending(self.path)
    self.assertFalse(
      run_log.complete(self.path, 'rank 2 has not come', before=before)
    )
    self.assertEqual(run_log.ending(self.path), before)

  def test_a_line_that_the_disk_does_not_take_is_an_error(self):
    log = RunLog(self.path, Clock())
    self.addCleanup(log.close)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file-size limit stands in for a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
      with self.assertRaises(OSError) as caught:
        log.start('init_start')
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    self.assertIn(caught.exception.errno, files.DISK_ERRORS)

  def test_a_run_that_succeeded_does_not_go_on(self):
    self.begun()
    with self.assertRaisesRegex(ValueError, 'got a finished one'):
      self.goes_on()
    self.assertLen(self.lines(), len(_GOOD))


if __name__ == '__main__':
  absltest.main()
