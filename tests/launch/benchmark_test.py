"""Tests of a set of runs: fresh processes, interruption, resuming."""

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from unittest import mock

from absl.testing import absltest

from launch import benchmark
from suite import files
from tests.launch import digits_data, processes


def _digest(path):
  with open(path, 'rb') as file:
    return hashlib.sha256(file.read()).hexdigest()


class BenchmarkTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.output = os.path.join(folder, 'set')
    self.arguments = (
      *processes.QUICK,
      '--runs=2',
      f'--output={self.output}',
      f'--data_dir={digits_data.data_dir()}',
    )

  def path(self, *names):
    return os.path.join(self.output, *names)

  def record(self, run):
    with open(self.path(f'run_{run}.json'), encoding='utf-8') as file:
      return json.load(file)

  def test_an_interrupted_set_goes_on_without_redoing_or_reusing(self):
    process = processes.start('launch.benchmark', *self.arguments)
    seen = []
    for line in process.stdout:
      seen.append(line)
      if line.startswith('run 1 (2 of 2): epoch 1'):
        break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=processes.LONGEST)
    self.assertEqual(process.returncode, 128 + signal.SIGTERM, errors)
    self.assertIn('To continue from here', errors)
    self.assertIn(self.output, errors)
    finished = _digest(self.path('result_0.txt'))
    interrupted = _digest(self.path('result_1.txt'))
    self.assertFalse(os.path.exists(self.path('run_1.json')))

    done = processes.run('launch.benchmark', *self.arguments)
    # No run reached the target, so there is no score.
    self.assertEqual(done.returncode, 1, done.stderr)
    out = done.stdout
    self.assertIn('run 0 (1 of 2): finished before', out)
    self.assertEqual(_digest(self.path('result_0.txt')), finished)
    aside = self.path('interrupted', 'run_1_0', 'result_1.txt')
    self.assertEqual(_digest(aside), interrupted)
    self.assertNotEqual(_digest(self.path('result_1.txt')), interrupted)
    seeds = [self.record(run)['seed'] for run in range(2)]
    self.assertLen(set(seeds), 2)
    self.assertIn('Attempts set aside unfinished: 1', out)
    last = out.strip().splitlines()[-1]
    self.assertEqual(last, f'Report: {self.path("report.html")}')
    self.assertTrue(os.path.exists(self.path('report.html')))
    self.assertTrue(os.path.exists(self.path('score.json')))

  def test_a_set_with_other_settings_is_refused_and_left_alone(self):
    os.makedirs(self.output)
    with open(self.path('set.json'), 'w', encoding='utf-8') as file:
      json.dump({'benchmark': 'resnet', 'runs': 5}, file)
    before = _digest(self.path('set.json'))
    done = processes.here(benchmark, *self.arguments)
    self.assertEqual(done.returncode, 2)
    self.assertRegex(
      done.stderr, r'error: .*other settings \(size, division, hyper'
    )
    self.assertCountEqual(os.listdir(self.output), ['lock', 'set.json'])
    self.assertEqual(_digest(self.path('set.json')), before)

  def test_one_process_at_a_time_makes_runs_of_a_set(self):
    program = (
      'import sys, time\n'
      'from launch import benchmark\n'
      'benchmark.claim(sys.argv[1], {"runs": 1})\n'
      'print("claimed", flush=True)\n'
      'time.sleep(600)\n'
    )
    first = subprocess.Popen(
      [sys.executable, '-c', program, self.output],
      cwd=processes.ROOT,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.addCleanup(first.wait)
    self.addCleanup(first.kill)
    self.assertEqual(first.stdout.readline(), 'claimed\n')
    with self.assertRaisesRegex(
      ValueError, f'{self.output}: process {first.pid} on .* is at work there'
    ):
      benchmark.claim(self.output, {'runs': 1})

    first.kill()
    first.wait()
    lock = benchmark.claim(self.output, {'runs': 1})
    # A run that outlives the process that started it holds the set.
    run = subprocess.Popen(['sleep', '600'], pass_fds=(lock,))
    self.addCleanup(run.wait)
    self.addCleanup(run.kill)
    os.close(lock)
    with self.assertRaisesRegex(ValueError, f'process {os.getpid()} on '):
      benchmark.claim(self.output, {'runs': 1})
    run.kill()
    run.wait()
    os.close(benchmark.claim(self.output, {'runs': 1}))

  def test_a_set_that_was_killed_as_it_began_keeps_nobody_out(self):
    os.makedirs(self.output)
    open(files.partial_path(self.path('set.json')), 'x').close()
    os.close(benchmark.claim(self.output, {'runs': 1}))
    with open(self.path('set.json'), encoding='utf-8') as file:
      self.assertEqual(json.load(file), {'runs': 1})

  def test_a_run_that_met_its_target_and_lost_its_record_is_not_made_again(
    self,
  ):
    os.makedirs(self.output)
    end = {'key': 'run_stop', 'metadata': {'status': 'success'}}
    log = self.path('result_0.txt')
    with open(log, 'w', encoding='utf-8') as file:
      file.write(f':::MLLOG {json.dumps(end)}\n')
    runner = benchmark.Runner(
      mock.Mock(), self.output, 1, lock=-1, arguments=()
    )
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self.assertEqual(runner.run(0), 1)
    self.assertRegex(
      said.getvalue(), 'run 0 met its target, but .*run_0.json is missing: put'
    )
    self.assertEqual(os.listdir(self.output), ['result_0.txt'])

  def test_a_folder_with_other_files_is_refused_and_left_alone(self):
    os.makedirs(self.output)
    with open(self.path('thesis.txt'), 'w', encoding='utf-8') as file:
      file.write('precious')
    done = processes.here(benchmark, *self.arguments)
    self.assertEqual(done.returncode, 2)
    self.assertIn('holds other files', done.stderr)
    self.assertEqual(os.listdir(self.output), ['thesis.txt'])

  def test_a_run_that_fails_ends_the_set_and_its_error_is_shown(self):
    done = processes.run('launch.benchmark', *self.arguments, '--platform=tpu')
    self.assertEqual(done.returncode, 1)
    self.assertIn('run 0 failed (exit code 2)', done.stderr)
    self.assertIn('--platform=tpu asked for, but JAX runs on cpu', done.stderr)


if __name__ == '__main__':
  absltest.main()
