"""Tests of one run, from its flags to its files."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from typing import ClassVar
from unittest import mock

from absl import flags
from absl.testing import absltest, flagsaver, parameterized
from array_record.python import array_record_module as array_record
import jax
import numpy as np
import pytest

from input_pipelines.reading import places
from launch import train, training
from launch.support import signals
from suite import files
from suite.results import audit
from suite.run import program
from tests.input_pipelines.reading import fake_bucket
from tests.launch import digits_data, entrypoint_flags, processes
from tests.suite.results import sample_results


def _lines(path):
  with open(path, encoding='utf-8') as file:
    return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]


class RefusalTest(parameterized.TestCase):
  """Bad input is refused in words before anything is written."""

  def setUp(self):
    super().setUp()
    self.addCleanup(entrypoint_flags.remove, entrypoint_flags.define(train))
    self.output = os.path.join(self.create_tempdir().full_path, 'set')

  def refused(self, says, **values):
    values = {
      'output': self.output,
      'data_dir': digits_data.data_dir(),
      **values,
    }
    with (
      flagsaver.flagsaver(**values),
      self.assertRaisesRegex((ValueError, OSError), says) as caught,
    ):
      train.main()
    self.assertNotIn('\n', str(caught.exception))
    self.assertFalse(os.path.exists(self.output))

  @parameterized.parameters(
    ({'benchmark': 'resnt'}, "Unknown benchmark 'resnt'.*mean 'resnet'"),
    ({'size': 'medium'}, "size of resnet 'medium'"),
    ({'hp': ['momentun=1']}, "did you mean 'momentum'"),
    ({'hp': ['momentum']}, "name=value, not 'momentum'"),
    ({'hp': ['momentum=.8', 'momentum=.7']}, 'momentum twice'),
    ({'hp': ['momentum=.8']}, 'Closed division: Expected momentum to be 0.9'),
    (
      {'hp': ['image_size=24']},
      'image_size to be 28, which Closed fixes, got 24',
    ),
    ({'hp': ['global_batch_size=100', 'model_bn_span=50']}, '8 devices do not'),
    ({'hp': ['model_bn_span=33']}, 'model_bn_span to be a divisor of'),
    ({'data_dir': '/nonexistent'}, 'launch.prepare_data --dataset=digits'),
    ({'size': 'reference'}, 'launch.prepare_data --dataset=imagenet2012'),
    ({'platform': 'tpu'}, '--platform=tpu asked for, but JAX runs on cpu'),
    ({'model_axis': 3}, 'model axis of 3'),
    ({'output': ''}, '--output=DIR is needed'),
    ({'skip_corrupt_records': 3}, 'needs --division=open'),
    (
      {'skip_corrupt_records': 3, 'division': 'open', 'input_processes': 2},
      'no worker processes',
    ),
    (
      {'benchmark': 'ncf', 'input_processes': 2},
      'ncf does not support --input_processes;.* supports --input_threads',
    ),
    ({'benchmark': 'minigo', 'input_threads': 2}, 'minigo .* supports none'),
    (
      {
        'benchmark': 'transformer',
        'skip_corrupt_records': 3,
        'division': 'open',
      },
      'transformer does not support --skip_corrupt_records',
    ),
  )
  def test_what_cannot_be_had_is_refused(self, values, says):
    self.refused(says, **values)

  def test_a_data_set_with_files_missing_is_refused(self):
    copy = self.create_tempdir().full_path
    os.symlink(
      os.path.join(digits_data.data_dir(), 'digits', '1.0.0'),
      os.path.join(copy, 'whole'),
    )
    partial = os.path.join(copy, 'digits', '1.0.0')
    os.makedirs(partial)
    for name in os.listdir(os.path.join(copy, 'whole')):
      if not name.endswith('00002-of-00004'):
        os.symlink(
          os.path.join(copy, 'whole', name), os.path.join(partial, name)
        )
    self.refused('00002-of-00004', data_dir=copy)

  def test_a_folder_that_holds_the_run_is_refused_and_left_alone(self):
    folder = self.create_tempdir()
    log = folder.create_file('result_0.txt', content='precious')
    with (
      flagsaver.flagsaver(
        output=folder.full_path, data_dir=digits_data.data_dir()
      ),
      self.assertRaisesRegex(ValueError, 'there already.*one run'),
    ):
      train.main()
    self.assertEqual(log.read_text(), 'precious')
    self.assertEqual(os.listdir(folder.full_path), ['result_0.txt'])

  def test_a_folder_that_cannot_be_written_is_refused(self):
    file = self.create_tempfile().full_path
    with (
      flagsaver.flagsaver(output=file, data_dir=digits_data.data_dir()),
      self.assertRaisesRegex(ValueError, 'Cannot write to directory'),
    ):
      train.main()

  def test_a_refusal_is_one_line_and_exit_code_2(self):
    done = processes.run('launch.train', '--benchmark=resnt')
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertLen(done.stderr.strip().splitlines(), 1)
    self.assertStartsWith(done.stderr, "error: Unknown benchmark 'resnt'")

  @parameterized.parameters('a\x07b', 'a\udcffb', '../acme', '/acme')
  def test_a_name_that_the_audit_refuses_is_refused_at_its_flag(self, name):
    with (
      self.assertRaisesRegex(
        flags.IllegalFlagValueError, 'submission_org=.* no path'
      ),
      flagsaver.flagsaver(),
    ):
      train.FLAGS.submission_org = name

  def test_an_unknown_flag_is_a_refusal_too(self):
    done = processes.run('launch.train', '--benchmrk=resnet')
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(
      done.stderr, r"error: Unknown command line flag 'benchmrk'"
    )


class KeepTest(absltest.TestCase):
  def test_a_record_that_can_be_written_nowhere_is_lost_and_that_is_said(self):
    (record,) = sample_results.runs_of([sample_results.result(3)])
    nowhere = os.path.join(self.create_tempdir().full_path, 'none')
    with (
      mock.patch.object(tempfile, 'tempdir', nowhere),
      self.assertRaisesRegex(
        training.Unrecorded, 'Nor could it .*, so it is lost; the log can be'
      ) as caught,
    ):
      training._keep(record, os.path.join(nowhere, 'run_3.json'))
    self.assertTrue(training._is_fatal(caught.exception))


class RunTestCase(parameterized.TestCase):
  """Whole runs, and what they leave."""

  quick = processes.QUICK

  def setUp(self):
    super().setUp()
    self.output = self.create_tempdir().full_path
    self.log = os.path.join(self.output, 'result_0.txt')
    self.places = (
      f'--output={self.output}',
      f'--data_dir={digits_data.data_dir()}',
    )
    self.arguments = (*self.quick, *self.places)

  def record(self, run):
    return files.read_json(files.record_path(self.output, run))

  def started(self, event):
    """Starts a run that does not end; returns it when it tells of `event`."""
    process = processes.start(
      'launch.train',
      *processes.quick(max_epochs=100000),
      *self.places,
      '--progress=json',
    )
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    for line in process.stdout:
      if json.loads(line)['event'] == event:
        return process
    raise AssertionError(process.stderr.read())

  def assert_ended(self, process, number):
    self.assertEqual(
      process.wait(processes.LONGEST), 128 + number, process.stderr.read()
    )
    name = signal.Signals(number).name
    last = _lines(self.log)[-1]
    self.assertEqual(last['key'], 'run_stop')
    self.assertEqual(last['metadata']['status'], 'aborted')
    self.assertEqual(last['metadata']['reason'], f'interrupted by {name}')
    self.assertFalse(os.path.exists(os.path.join(self.output, 'run_0.json')))


class HereTest(RunTestCase):
  """In this process, on its eight devices, compiled once."""

  quick = processes.quick(max_epochs=1)
  _programs: ClassVar[list[program.Program]] = []

  def setUp(self):
    super().setUp()
    build = program.Program.build

    def once(*how):
      if not self._programs:
        self._programs.append(build(*how))
      return self.changed(self._programs[0])

    self.changed = lambda made: made
    self.enter_context(mock.patch.object(program.Program, 'build', once))
    for number in signals.ending():  # a run leaves them ignored
      self.addCleanup(signal.signal, number, signal.getsignal(number))

  def run_it(self, *more):
    return processes.here(train, *self.arguments, *more)

  def with_a_broken_record(self):
    """A data directory with digits, of which one is no JPEG."""
    data_dir = os.path.join(self.create_tempdir().full_path, 'data')
    shutil.copytree(digits_data.data_dir(), data_dir)
    folder = places.find(data_dir, 'digits')
    os.remove(os.path.join(folder, 'manifest.json'))
    path = os.path.join(folder, 'digits-train.array_record-00000-of-00004')
    reader = array_record.ArrayRecordReader(path)
    records = reader.read_all()
    reader.close()
    jpeg = records[2].index(b'\xff\xd8\xff')
    records[2] = records[2][:jpeg] + b'\0' * 100 + records[2][jpeg + 100 :]
    writer = array_record.ArrayRecordWriter(path, 'group_size:1')
    for record in records:
      writer.write(record)
    writer.close()
    return data_dir

  def test_a_broken_record_ends_a_run_unless_open_may_skip_it(self):
    data = f'--data_dir={self.with_a_broken_record()}'
    with self.assertLogs(level='ERROR') as said:
      done = self.run_it(data)
    self.assertEqual(done.returncode, 1)
    names = r"Record \d+ of the split 'train' .*array_record-0000\d-of-00004"
    self.assertRegex('\n'.join(said.output), names)
    self.assertRegex(_lines(self.log)[-1]['metadata']['reason'], names)

    done = self.run_it(data, '--run=1', '--skip_corrupt_records=2')
    record = self.record(1)
    self.assertLen(record['losses'], 8, done.stderr)
    self.assertLen(record['data']['skipped_records'], 1)
    self.assertIn('1 training record could not be read', done.stdout)

  def test_a_rehearsal_makes_two_steps_and_an_eval_and_leaves_nothing(self):
    done = self.run_it('--rehearse', '--seed=7')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(
      done.stdout, r'^rehearsed: losses [\d.]+, [\d.]+; eval accuracy [\d.]+\n$'
    )
    self.assertEmpty(os.listdir(self.output))
    with fake_bucket.serve(digits_data.data_dir()) as bucket:
      there = self.run_it('--rehearse', '--seed=7', f'--data_dir={bucket.url}')
      self.assertTrue(any('array_record' in name for name in bucket.requests))
    self.assertEqual(there.stdout, done.stdout, there.stderr)

  def test_a_signal_in_startup_leaves_nothing_that_refuses_the_next(self):
    process = self.started('stage')
    process.send_signal(signal.SIGTERM)
    self.assertEqual(process.wait(processes.LONGEST), 128 + signal.SIGTERM)
    self.assertEqual(os.listdir(self.output), ['interrupted'])
    done = self.run_it()
    self.assertEqual(done.returncode, 1, done.stderr)
    self.assertLen(self.record(0)['losses'], 8)

  def test_a_record_that_cannot_be_written_is_kept_elsewhere_and_said_so(self):
    temporary, write = self.create_tempdir().full_path, files.write_json

    def on_a_full_disk(path, value):
      if path.startswith(self.output):
        raise OSError(28, 'No space left on device', path)
      write(path, value)

    with (
      mock.patch.object(files, 'write_json', on_a_full_disk),
      mock.patch.object(tempfile, 'tempdir', temporary),
    ):
      done = self.run_it()
    self.assertEqual(done.returncode, 1, done.stderr)
    path = os.path.join(self.output, 'run_0.json')
    said = re.fullmatch(
      rf'error: The run is over and its log is whole, .* No space left .* It '
      rf'is in (\S+); as soon as there is room: (mv \S+ {path})\n',
      done.stderr,
    )
    self.assertIsNotNone(said, done.stderr)
    self.assertEqual(os.listdir(temporary), [os.path.basename(said[1])])
    end = _lines(self.log)[-1]['metadata']
    self.assertStartsWith(end['reason'], 'target accuracy')
    subprocess.run(said[2], shell=True, check=True)
    self.assertEqual(self.record(0)['reason'], end['reason'])
    self.assertCountEqual(
      os.listdir(self.output), ['result_0.txt', 'run_0.json']
    )

  def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(self):
    self.changed = lambda made: dataclasses.replace(
      made, train_step=_exploding(made.train_step)
    )
    done = self.run_it()
    self.assertEqual(done.returncode, 1, done.stderr)
    assert_exploded(self)


def _exploding(step):
  """A train step whose loss is infinite from step 3 on; a warm-up is a call."""
  calls = itertools.count(1)

  def wrapped(program):
    def call(state, batch):
      state, metrics = program(state, batch)
      loss = np.float32(np.inf if next(calls) > 3 else 1.0)
      return state, {**metrics, 'loss': jax.device_put(loss)}

    return call

  programs = [wrapped(each) for each in step.programs]
  return dataclasses.replace(step, programs=programs)


def assert_exploded(test):
  """A run ended at a loss that was not finite."""
  record = test.record(0)
  test.assertRegex(record['reason'], r'non-finite loss \(\w+\) at step \d+')
  test.assertIsNone(record['losses'][-1][1])
  test.assertEqual(_lines(test.log)[-1]['metadata']['reason'], record['reason'])


class ProcessTest(RunTestCase):
  """In processes of their own."""

  def test_a_run_that_misses_its_target_says_so_in_all_that_it_leaves(self):
    done = processes.quick_run()
    self.assertEqual(done.returncode, 1, done.stderr)
    self.assertNotIn('leaked', done.stderr)
    self.assertIn('epoch 2', done.stdout)
    record = files.read_json(files.record_path(done.folder, 0))
    self.assertLen(record['losses'], 16)
    self.assertEqual(record['status'], 'aborted')
    self.assertIsNone(record['time_to_quality'])
    for whole in ('startup', 'timed'):
      self.assertAlmostEqual(
        sum(record[whole]['parts'].values()), record[whole]['seconds'], places=6
      )
    log = files.log_path(done.folder, 0)
    self.assertEqual(_lines(log)[-1]['metadata']['status'], 'aborted')
    errors = audit.errors(audit.examine_log(log).findings)
    self.assertNotEmpty(errors)
    for finding in errors:
      self.assertRegex(finding.text, 'target|status|aborted|accuracy')

  @pytest.mark.slow
  def test_ctrl_c_ends_a_run_in_order(self):
    process = self.started('quality')
    process.send_signal(signal.SIGINT)
    self.assert_ended(process, signal.SIGINT)
    self.assertNotIn('run_0.lock', os.listdir(self.output))

  def test_a_run_lets_none_beside_it_and_goes_on_unread_until_its_terminal_goes(
    self,
  ):
    process = self.started('quality')
    process.stdout.close()
    for more in ([], ['--resume']):
      done = processes.here(train, *self.arguments, *more)
      self.assertEqual(done.returncode, 2)
      self.assertRegex(
        done.stderr,
        f'got run 0 in {self.output}: process {process.pid} on .* is at work',
      )
    evals = self.evals()
    until = time.monotonic() + processes.LONGEST
    while self.evals() < evals + 2:
      self.assertIsNone(process.poll(), 'it ended with its reader')
      self.assertLess(time.monotonic(), until)
      time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    self.assert_ended(process, signal.SIGHUP)
    self.assertNotIn('run_0.lock', os.listdir(self.output))

  def evals(self):
    with open(self.log, encoding='utf-8') as file:
      return file.read().count('"eval_accuracy"')

  @pytest.mark.slow
  def test_one_seed_gives_bit_equal_losses_from_a_disk_and_from_a_bucket(self):
    with fake_bucket.serve(digits_data.data_dir()) as bucket:
      done = processes.run(
        'launch.train', *self.arguments, '--seed=7',
        f'--data_dir={bucket.url}',
      )  # fmt: skip
      self.assertTrue(any('array_record' in name for name in bucket.requests))
    self.assertEqual(done.returncode, 1, done.stderr)
    folder = processes.quick_run().folder
    first = files.read_json(files.record_path(folder, 0))
    second = self.record(0)
    self.assertEqual(first['losses'], second['losses'])
    self.assertEqual(first['data'], second['data'])
    self.assertEqual(
      [e['quality'] for e in first['evals']],
      [e['quality'] for e in second['evals']],
    )

  @pytest.mark.slow
  def test_a_loss_that_explodes_ends_the_run_and_names_the_step(self):
    done = processes.run(
      'launch.train', *self.arguments, '--hp=base_learning_rate=1e30',
      '--hp=opt_name=sgd', '--hp=warmup_epochs=0',
    )  # fmt: skip
    self.assertEqual(done.returncode, 1, done.stderr)
    assert_exploded(self)

  def test_list_hp_shows_every_hyperparameter_and_starts_nothing(self):
    done = processes.run('launch.train', '--list_hp')
    self.assertEqual(done.returncode, 0)
    self.assertIn('momentum=0.9', done.stdout)
    self.assertIn('fixed', done.stdout)


if __name__ == '__main__':
  absltest.main()
