"""Faults at random moments: kills, dead ranks, full disks, Ctrl-C in startup.

Nothing may be left of them in the losses, in the exit code, or in what the log
says. TESTS_FAULTS sets how often each is repeated, TESTS_SEED other moments.
"""

import contextlib
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

from absl.testing import absltest, parameterized
import pytest

from launch import local
from launch.cluster import worker
from suite.run import run_log
from tests.launch import digits_data, processes

_TIMES = int(os.environ.get('TESTS_FAULTS', '4'))
_LONGEST = 900  # seconds of a wait; the bounds themselves are far lower
# From a death to the end of all, in seconds: the longest that a rank may be
# silent, and what a busy machine adds.
_BOUND = 90
_JOIN = 20  # --join_seconds where ranks do not come
_NO_SPACE = 'No space left on device|another process|an error elsewhere'


class FaultsTestCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.random = random.Random(self.id() + os.environ.get('TESTS_SEED', ''))
    self.folder = self.create_tempdir().full_path

  def path(self, *names):
    return os.path.join(self.folder, *names)

  def arguments(self, name, *more):
    return (
      *processes.QUICK, '--preflight=false', '--seed=7',
      f'--output={self.path(name)}', f'--data_dir={digits_data.data_dir()}',
      '--checkpoint_steps=1', '--progress=json', *more,
    )  # fmt: skip

  def start(self, name, count, *more):
    """Starts all ranks of a run."""
    started = [
      _Rank(self.arguments(name, *more), place)
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


class _Rank:
  """A process of launch.train, and what it prints."""

  def __init__(self, arguments, place):
    self.began = time.monotonic()
    self.process = processes.start(
      'launch.train', *arguments, environment=place
    )
    self.lines: list[str] = []
    self.errors = ''
    self._threads = [
      threading.Thread(target=self._read_lines),
      threading.Thread(target=self._read_errors),
    ]
    for each in self._threads:
      each.start()

  def _read_lines(self):
    for line in self.process.stdout:
      self.lines.append(line)

  def _read_errors(self):
    self.errors = self.process.stderr.read()

  def says(self, text):
    return any(text in line for line in self.lines)

  def worker(self):
    """The process id of its worker; its own where it has none."""
    own = self.process.pid
    for child in _read(f'/proc/{own}/task/{own}/children').split():
      # Others are programs that it asks about this machine.
      if worker.VARIABLE in _read(f'/proc/{child}/environ'):
        return int(child)
    return own

  def ended(self):
    """Its exit code, once it has ended."""
    code = self.process.wait(_LONGEST)
    for each in self._threads:
      each.join()
    return code

  def end(self):
    self.process.kill()
    self.ended()


def _read(path):
  """The content of a file of /proc; '' without one."""
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read()
  except (FileNotFoundError, ProcessLookupError):
    return ''


def _ended(ranks):
  """Exit codes of all, and the seconds until the last has ended."""
  began = time.monotonic()
  return [rank.ended() for rank in ranks], time.monotonic() - began


def _until(rank, seconds, happens):
  """Waits until it happens, the rank ends, or the time is over."""
  end = time.monotonic() + seconds
  while (
    rank.process.poll() is None and time.monotonic() < end and not happens()
  ):
    time.sleep(0.001)


def _kill(number):
  with contextlib.suppress(ProcessLookupError):  # it was quicker
    os.kill(number, signal.SIGKILL)


@pytest.mark.slow
class KillTest(FaultsTestCase):
  """kill -9 at random moments; then the run resumes."""

  @parameterized.parameters(1, 2)
  def test_kills_leave_no_trace_in_the_losses(self, count):
    (first, *_) = whole = self.start('whole', count)
    # The target is far away.
    self.assertEqual(
      [rank.ended() for rank in whole], [1] * count, first.errors
    )
    seconds = time.monotonic() - first.began
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
      _kill(each)
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
      _until(rank, 3 * seconds, lambda: _unfinished(place) - before)
      _until(rank, self.random.uniform(0, 0.05), lambda: False)
    elif kind == 'restore' and os.path.isdir(place):
      _until(rank, 3 * seconds, lambda: rank.says('restoring'))
      _until(rank, self.random.uniform(0, 0.3), lambda: False)
    else:
      _until(rank, self.random.uniform(0, 1.2 * seconds), lambda: False)

  def finish(self, name, count):
    if not os.path.exists(self.path(name, 'run_0.json')):
      ranks = self.start(name, count, '--resume')
      codes = [rank.ended() for rank in ranks]
      self.assertEqual(codes, [1] * count, ranks[0].errors)


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
      ranks = self.start(name, 2, '--hp=max_epochs=100000')
      _until(ranks[0], _LONGEST, lambda ranks=ranks: ranks[0].says('"stage"'))
      # In startup, in the first steps, in an eval, in a save.
      _until(ranks[0], self.random.uniform(0, 12), lambda: False)
      victim = ranks[rank]
      _kill(victim.worker() if kind == 'worker' else victim.process.pid)
      found, seconds = _ended(ranks)
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
      _kill(ranks[victim].process.pid)
      codes, took = _ended(ranks)
      others = [n for n in range(3) if n != victim]
      said = [ranks[n].errors for n in others]
      self.assertEqual([codes[n] for n in others], [75, 75], said)
      for text in said:
        self.assertRegex(text, rf'(?i)rank {victim}\b')
      self.assertLess(took, _JOIN + _BOUND)
      self.assert_no_process_is_left(name)
      if all('connection was closed' in text for text in said):
        at_once.append(took)
    print(
      f'ranks that die before all have met: {_TIMES} of {_TIMES}; '
      f'{len(at_once)} at once, within {max(at_once, default=0):.1f} s, the '
      'others after --join_seconds'
    )

  def seconds_to_meet(self):
    """Seconds from the start of three ranks to that of their workers."""
    ranks = self.start('whole', 3)
    _until(
      ranks[0], _LONGEST, lambda: ranks[0].worker() != ranks[0].process.pid
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
      _until(rank, _LONGEST, lambda rank=rank, own=own: rank.worker() != own)
      started = rank.worker()
      self.assertNotEqual(started, own, rank.errors)
      time.sleep(self.random.uniform(0, 4))
      _kill(own)
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
    failed = 0
    for number in range(_TIMES):
      name = f'run_{number}'
      # Of this model, all that is written takes less than 300 kB.
      done = self.on_a_disk(name, self.random.randrange(12, 120))
      if os.path.exists(self.path(name, 'run_0.json')):
        continue  # it had room enough
      failed += 1
      self.assertEqual(done.returncode, 1, done.stdout)
      self.assertRegex(done.stdout, 'No space left on device')
      self.assertNotIn('no progress', done.stdout)
      end = run_log.ending(self.path(name, 'result_0.txt'))
      if end is not None:  # else its last line had no room
        self.assertRegex(end['reason'], _NO_SPACE)
    print(f'{failed} of {_TIMES} disks were full')
    self.assertGreater(failed, 0)

  def on_a_disk(self, name, kilobytes):
    """Runs two ranks with their output on a disk of that size."""
    os.mkdir(self.path(name))
    os.makedirs(self.path('disk'), exist_ok=True)
    script = (
      'disk=$1 copy=$2; mount -t tmpfs -o size="$3"k none "$disk" || exit; '
      'shift 3; "$@"; code=$?; cp -r "$disk"/. "$copy"; exit $code'
    )
    command = [
      sys.executable, '-m', 'launch.local', '--processes=2', '--devices=1',
      '--', 'launch.train', *self.arguments('disk', '--watchdog_seconds=300'),
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
      timeout=_LONGEST,
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
      _, errors = process.communicate(timeout=_LONGEST)
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


if __name__ == '__main__':
  absltest.main()
