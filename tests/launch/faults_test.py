"""Faults at random moments: kills, dead ranks, full disks, Ctrl-C, two at once.

Nothing may be left of them in the losses, in the exit code, or in what the log
says. See repeated.py for how often.
"""

import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

from absl.testing import absltest, parameterized
import pytest

from launch import benchmark, local
from suite import files
from suite.run import run_log
from tests.launch import digits_data, processes, repeated

_TIMES = repeated.TIMES
# From a death to the end of all, in seconds: the longest that a rank may be
# silent, and what a busy machine adds.
_BOUND = 90
_ENDLESS = 100_000  # epochs, which no test sees the end of
_JOIN = 20  # --join_seconds where ranks do not come
# Kilobytes for a log and a record, and not for a checkpoint.
_NO_CHECKPOINT = 64
_NO_SPACE = 'No space left on device|another process|an error elsewhere'


class FaultsTestCase(repeated.RepeatedTestCase):
  def arguments(self, name, *more, epochs=2):
    return (
      *processes.quick(max_epochs=epochs), '--preflight=false', '--seed=7',
      f'--output={self.path(name)}', f'--data_dir={digits_data.data_dir()}',
      '--checkpoint_steps=1', '--progress=json', *more,
    )  # fmt: skip

  def start(self, name, count, *more, **changes):
    """Starts all ranks of a run."""
    started = [
      repeated.Rank(self.arguments(name, *more, **changes), place)
      for place in local.places(count, 1)
    ]
    for each in started:
      self.addCleanup(each.end)
    return started

  def result(self, name):
    """Losses and evals of a run, without their times."""
    with open(self.path(name, 'run_0.json'), encoding='utf-8') as file:
      record = json.load(file)
    evals = [(e['at'], e['step'], e['quality']) for e in record['evals']]
    return record['losses'], evals

  def reason(self, name):
    """The reason that the log ends with, where it lies now; None: no log."""
    place = self.path(name)
    found = glob.glob(f'{place}/result_0.txt')
    found += glob.glob(f'{place}/interrupted/run_0_*/result_0.txt')
    if not found:
      return None
    self.assertLen(found, 1)
    end = run_log.ending(found[0])
    self.assertEqual(end['status'], 'aborted')
    return end['reason']

  def assert_no_process_is_left(self, name):
    found = subprocess.run(
      ('pgrep', '-f', self.path(name)), capture_output=True, text=True
    )
    self.assertEqual(found.stdout, '')


@pytest.mark.slow
class KillTest(FaultsTestCase):
  """kill -9 at random moments; then the run resumes."""

  @parameterized.parameters(1, 2)
  def test_kills_leave_no_trace_in_the_losses(self, count):
    seconds = self.whole('whole', count)
    kills, attempts = 0, 0
    while kills < _TIMES:
      name = f'killed_{attempts}'
      attempts += 1
      # Often enough in one run for several saves and restores to be hit.
      for _ in range(min(5, _TIMES - kills)):
        if not self.killed(name, count, seconds):
          break
        kills += 1
      self.finish(name, count)
      self.assertEqual(self.result(name), self.result('whole'))
      shutil.rmtree(self.path(name))
    print(f'{kills} kills of {count} processes, {attempts} runs, all bit-equal')

  def test_one_that_is_killed_in_its_first_checkpoint_resumes(self):
    anew = 0
    for number in range(_TIMES):
      count = 1 + number % 2
      whole, name = f'whole_{count}', f'killed_{number}'
      if not os.path.exists(self.path(whole)):
        self.whole(whole, count)
      place = self.path(name, 'checkpoints_0')
      ranks = self.start(name, count)
      repeated.until(
        ranks[0], processes.LONGEST, lambda place=place: _unfinished(place)
      )
      repeated.until(ranks[0], self.random.uniform(0, 0.05), lambda: False)
      for rank in ranks:
        repeated.kill(rank.worker())
        repeated.kill(rank.process.pid)
      codes = [rank.ended() for rank in ranks]
      self.assertEqual(codes, [-signal.SIGKILL] * count)
      anew += not any(map(str.isdigit, os.listdir(place)))
      (first, *_) = self.finish(name, count)
      self.assertEqual(self.result(name), self.result(whole), first.errors)
      shutil.rmtree(self.path(name))
    print(
      f'killed in the first checkpoint: {_TIMES}, all bit-equal; {anew} '
      'had no whole one'
    )
    self.assertGreater(anew, 0)

  def whole(self, name, count):
    """Makes a run that nothing disturbs; its seconds."""
    (first, *_) = ranks = self.start(name, count)
    # The target is far away.
    codes = [rank.ended() for rank in ranks]
    self.assertEqual(codes, [1] * count, first.errors)
    return time.monotonic() - first.began

  def killed(self, name, count, seconds):
    """Kills a run at a random moment; False if it ended before."""
    ranks = self.start(name, count, '--resume')
    self.wait(name, ranks[0], seconds)
    if os.path.exists(self.path(name, 'run_0.json')):
      self.assertEqual([rank.ended() for rank in ranks], [1] * count)
      return False
    victims = self.random.choice(
      [
        *([rank.process.pid] for rank in ranks),
        *([rank.worker()] for rank in ranks),
        [rank.process.pid for rank in ranks],
      ]
    )
    for each in victims:
      repeated.kill(each)
    codes = [rank.ended() for rank in ranks]
    self.assertContainsSubset(codes, {1, 75, -signal.SIGKILL})
    self.assert_no_process_is_left(name)
    return 1 not in codes

  def wait(self, name, rank, seconds):
    """Waits for a moment: any, in the midst of a save, or of a restore."""
    kind = self.random.choice(['time', 'save', 'restore'])
    place = self.path(name, 'checkpoints_0')
    if kind == 'save':
      before = _unfinished(place)
      repeated.until(rank, 3 * seconds, lambda: _unfinished(place) - before)
      repeated.until(rank, self.random.uniform(0, 0.05), lambda: False)
    elif kind == 'restore' and os.path.isdir(place):
      repeated.until(rank, 3 * seconds, lambda: rank.says('restoring'))
      repeated.until(rank, self.random.uniform(0, 0.3), lambda: False)
    else:
      repeated.until(rank, self.random.uniform(0, 1.2 * seconds), lambda: False)

  def finish(self, name, count):
    """The ranks that resume a run to its end; none where it has one."""
    if os.path.exists(self.path(name, 'run_0.json')):
      return []
    ranks = self.start(name, count, '--resume')
    codes = [rank.ended() for rank in ranks]
    self.assertEqual(codes, [1] * count, ranks[0].errors)
    return ranks


def _unfinished(place):
  names = os.listdir(place) if os.path.isdir(place) else []
  return {name for name in names if not name.isdigit()}


@pytest.mark.slow
class DeathTest(FaultsTestCase):
  """A rank dies at a random moment; the log says which, and of what."""

  def test_of_a_rank_that_dies_the_log_says_so_and_not_what_it_brings(self):
    self.dies('a rank that dies', 'worker', 1, [75, 75])

  def test_of_a_supervisor_that_is_killed_the_log_says_so(self):
    self.dies('a supervisor that is killed', 'supervisor', 1, [75, -9])

  def test_where_the_supervisor_of_rank_0_is_killed_rank_1_says_so(self):
    self.dies('a supervisor of rank 0', 'supervisor', 0, [-9, 75])

  def dies(self, what, kind, rank, codes):
    says = {
      'worker': 'its process was ended by SIGKILL',
      'supervisor': 'its connection was closed',
    }[kind]
    logs, longest = 0, 0.0
    for number in range(_TIMES):
      name = f'run_{number}'
      ranks = self.start(name, 2, epochs=_ENDLESS)
      repeated.until(
        ranks[0],
        processes.LONGEST,
        lambda ranks=ranks: ranks[0].says('"stage"'),
      )
      # In startup, in the first steps, in an eval, in a save.
      repeated.until(ranks[0], self.random.uniform(0, 12), lambda: False)
      victim = ranks[rank]
      repeated.kill(victim.worker() if kind == 'worker' else victim.process.pid)
      found, seconds = repeated.ended(ranks)
      said = [each.errors for each in ranks]
      self.assertEqual(found, codes, said)
      self.assertRegex(said[1 - rank], rf'rank {rank} \(\S+\): {says}')
      reason = self.reason(name)
      if reason is not None:  # else it had not been opened
        logs += 1
        self.assertRegex(reason, rf'^rank {rank} \(\S+\): {says}')
      self.assertLess(seconds, _BOUND)
      self.assert_no_process_is_left(name)
      longest = max(longest, seconds)
      shutil.rmtree(self.path(name), ignore_errors=True)
    print(
      f'{what}: {_TIMES} of {_TIMES}, {logs} with a log, at most {longest:.1f} '
      's to the end'
    )
    self.assertGreater(logs, 0)


@pytest.mark.slow
class MeetingTest(FaultsTestCase):
  """Deaths before all ranks have met, and of who watches a new worker."""

  def test_a_rank_that_dies_before_all_have_met_ends_the_others(self):
    seconds = self.seconds_to_meet()
    at_once = []
    for number in range(_TIMES):
      name = f'run_{number}'
      ranks = self.start(name, 3, f'--join_seconds={_JOIN}')
      victim = self.random.randrange(3)
      time.sleep(self.random.uniform(0, seconds))
      connected = ranks[0].connections() == 3
      repeated.kill(ranks[victim].process.pid)
      codes, took = repeated.ended(ranks)
      others = [n for n in range(3) if n != victim]
      said = [ranks[n].errors for n in others]
      self.assertEqual([codes[n] for n in others], [75, 75], said)
      for text in said:
        self.assertRegex(text, rf'(?i)rank {victim}\b')
        if connected:
          self.assertIn('its connection was closed', text)
      self.assertLess(took, _BOUND if connected else _JOIN + _BOUND)
      self.assert_no_process_is_left(name)
      if connected:
        at_once.append(took)
    print(
      f'ranks that die before all have met: {_TIMES} of {_TIMES}; the '
      f'{len(at_once)} after all were connected within '
      f'{max(at_once, default=0):.1f} s, others after --join_seconds'
    )
    self.assertNotEmpty(at_once)

  def seconds_to_meet(self):
    """Seconds from the start of three ranks to that of their workers."""
    ranks = self.start('whole', 3)
    repeated.until(
      ranks[0],
      processes.LONGEST,
      lambda: ranks[0].worker() != ranks[0].process.pid,
    )
    seconds = time.monotonic() - ranks[0].began
    for each in ranks:
      each.end()
    return seconds

  def test_a_worker_ends_with_its_supervisor_in_its_first_seconds(self):
    longest = 0.0
    for number in range(_TIMES):
      (rank,) = self.start(f'run_{number}', 1, '--watchdog_seconds=600')
      own = rank.process.pid
      repeated.until(
        rank, processes.LONGEST, lambda rank=rank, own=own: rank.worker() != own
      )
      started = rank.worker()
      self.assertNotEqual(started, own, rank.errors)
      time.sleep(self.random.uniform(0, 4))
      repeated.kill(own)
      began = time.monotonic()
      while os.path.exists(f'/proc/{started}/exe'):
        self.assertLess(time.monotonic() - began, _BOUND)
      longest = max(longest, time.monotonic() - began)
      self.assertEqual(rank.ended(), -signal.SIGKILL)
    print(
      f'workers whose supervisor is killed: {_TIMES} of {_TIMES}, within '
      f'{longest:.2f} s'
    )


@pytest.mark.slow
class FullDiskTest(FaultsTestCase):
  """A disk that is full at a random moment: in a save, a log line, a record."""

  def test_it_ends_all_ranks_and_is_named(self):
    failed, longest = 0, 0.0
    whole = self.seconds_of_all('whole', 1 << 20)[1]
    for number in range(_TIMES):
      name = f'run_{number}'
      # Of this model, all that is written takes less than 300 kB.
      kilobytes = self.random.randrange(12, 120)
      strict = '--checkpoint_strict'
      done, seconds = self.seconds_of_all(name, kilobytes, strict)
      if os.path.exists(self.path(name, 'run_0.json')):
        continue  # it had room enough
      failed += 1
      self.assertEqual(done.returncode, 1, done.stdout)
      self.assertRegex(done.stdout, 'No space left on device')
      self.assertNotIn('no progress', done.stdout)
      end = run_log.ending(self.path(name, 'result_0.txt'))
      if end is not None:  # else its last line had no room
        self.assertRegex(end['reason'], _NO_SPACE)
      longest = max(longest, seconds)
    print(
      f'{failed} of {_TIMES} disks were full; such runs took at most '
      f'{longest:.0f} s, a whole one {whole:.0f} s'
    )
    self.assertGreater(failed, 0)
    self.assertLess(longest, whole + _BOUND)

  def test_a_checkpoint_without_room_does_not_end_a_run(self):
    self.on_a_disk('whole', 1 << 20)
    done = self.on_a_disk('full', _NO_CHECKPOINT)
    self.assertRegex(done.stdout, 'No space left on device.*Training goes on')
    self.assertEqual(done.returncode, 1, done.stdout)  # the target is far away
    whole, full = (
      files.read_json(self.path(name, 'run_0.json'))
      for name in ('whole', 'full')
    )
    self.assertEqual(full['losses'], whole['losses'])

  def seconds_of_all(self, name, kilobytes, *more):
    """A run on a disk of that size, and the seconds until it ended."""
    began = time.monotonic()
    done = self.on_a_disk(name, kilobytes, *more)
    return done, time.monotonic() - began

  def on_a_disk(self, name, kilobytes, *more):
    """Runs two ranks with their output on a disk of that size."""
    os.mkdir(self.path(name))
    os.makedirs(self.path('disk'), exist_ok=True)
    script = (
      'disk=$1 copy=$2; mount -t tmpfs -o size="$3"k none "$disk" || exit; '
      'shift 3; "$@"; code=$?; cp -r "$disk"/. "$copy"; exit $code'
    )
    command = [
      sys.executable, '-m', 'launch.local', '--processes=2', '--devices=1',
      '--', 'launch.train',
      *self.arguments('disk', '--watchdog_seconds=300', *more),
    ]  # fmt: skip
    done = subprocess.run(
      [
        'unshare', '-m', 'sh', '-c', script, 'sh', self.path('disk'),
        self.path(name), str(kilobytes), *command,
      ],
      cwd=processes.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      timeout=processes.LONGEST,
    )  # fmt: skip
    if 'unshare:' in done.stdout or 'mount:' in done.stdout:
      self.skipTest(f'no mount namespace here: {done.stdout.strip()[-100:]}')
    return done


@pytest.mark.slow
class StartupTest(FaultsTestCase):
  """Ctrl-C at a random moment of startup."""

  @parameterized.parameters('train', 'benchmark')
  def test_it_ends_without_a_traceback_and_leaves_nothing_in_the_way(
    self, command
  ):
    arguments = (
      *processes.QUICK, f'--data_dir={digits_data.data_dir()}',
      f'--output={self.path("run")}',
    )  # fmt: skip
    done = processes.run('launch.train', *arguments, '--run=9')
    self.assertEqual(done.returncode, 1, done.stderr)
    with open(self.path('run', 'run_9.json'), encoding='utf-8') as file:
      startup = json.load(file)['startup']['seconds']
    shutil.rmtree(self.path('run'))
    longest = 0.0
    for _ in range(_TIMES):
      process = processes.start(f'launch.{command}', *arguments)
      self.addCleanup(process.wait)
      self.addCleanup(process.kill)
      # Before that it is Python that starts, and not yet ours.
      for caught in (True, False):
        while processes.catches(process.pid, signal.SIGINT) is not caught:
          self.assertIsNone(process.poll())
      time.sleep(self.random.uniform(0, 1.2 * startup))
      process.send_signal(signal.SIGINT)
      began = time.monotonic()
      _, errors = process.communicate(timeout=processes.LONGEST)
      longest = max(longest, time.monotonic() - began)
      self.assertIn(process.returncode, (-signal.SIGINT, 130), errors)
      self.assertNotIn('Traceback', errors)
      log = self.path('run', 'result_0.txt')
      if command == 'train' and os.path.exists(log):  # its clock had started
        with open(log, encoding='utf-8') as file:
          self.assertIn('"run_start"', file.read())
      shutil.rmtree(self.path('run'), ignore_errors=True)
    print(f'Ctrl-C {_TIMES} times in startup of {command}: {longest:.1f} s')
    self.assertLess(longest, _BOUND)


@pytest.mark.slow
class TwoSetsTest(FaultsTestCase):
  """Two launch.benchmark in one output, the second at a random moment."""

  def test_one_is_made_and_the_other_refused_until_it_is_gone(self):
    outlived = 0
    for number in range(_TIMES):
      name = f'set_{number}'
      first = self.begin(name)
      time.sleep(self.random.choice([0, self.random.uniform(0, 10)]))
      made, refused = self.of_two(first, self.begin(name))
      _, errors = refused.communicate()
      self.assertEqual(refused.returncode, 2, errors)
      self.assertRegex(errors, self.words(name, made))
      self.assertIsNone(made.poll())
      self.assertFalse(os.path.exists(self.path(name, 'interrupted')))
      if self.random.random() < 0.5:
        made.send_signal(signal.SIGINT)
        _, errors = made.communicate(timeout=processes.LONGEST)
        self.assertIn(made.returncode, (-signal.SIGINT, 130), errors)
      else:
        outlived += self.end_before_its_run(made, name)
      self.claim(name)  # what is left keeps nobody out
    print(
      f'two sets in one output: {_TIMES} of {_TIMES}, one refused; {outlived} '
      'runs that outlived their set kept others out'
    )

  def words(self, name, holder):
    return f'nothing runs, got {self.path(name)}: process {holder.pid} on'

  def claim(self, name):
    """Takes the lock of a set as the next launch.benchmark does."""
    with open(self.path(name, 'set.json'), encoding='utf-8') as file:
      os.close(benchmark.claim(self.path(name), json.load(file)))

  def begin(self, name):
    process = processes.start(
      'launch.benchmark', *processes.quick(max_epochs=_ENDLESS), '--runs=2',
      f'--output={self.path(name)}',
      f'--data_dir={digits_data.data_dir()}',
    )  # fmt: skip
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    return process

  def of_two(self, first, second):
    """The one that goes on, and the one that ends."""
    end = time.monotonic() + processes.LONGEST
    while first.poll() is None and second.poll() is None:
      self.assertLess(time.monotonic(), end)
      time.sleep(0.01)
    return (first, second) if first.poll() is None else (second, first)

  def end_before_its_run(self, process, name):
    """kill -9; returns whether it had a run, which goes on until it is told."""
    own = process.pid
    children = repeated.read(f'/proc/{own}/task/{own}/children').split()
    process.kill()
    process.wait()
    runs = [
      int(child)
      for child in children
      if 'launch.' in repeated.read(f'/proc/{child}/cmdline')
    ]
    if runs:
      with self.assertRaisesRegex(ValueError, self.words(name, process)):
        self.claim(name)
    for run in runs:
      descriptor = os.pidfd_open(run)
      repeated.kill(run)
      select.select([descriptor], [], [], processes.LONGEST)  # it has ended
      os.close(descriptor)
    return bool(runs)


if __name__ == '__main__':
  absltest.main()
