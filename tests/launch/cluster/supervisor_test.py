"""Tests of how ranks end together, on ranks that train nothing.

hosts_test.py does some of this to ranks that train.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from launch import local
from launch.cluster import beats, supervisor, worker
from launch.cluster import place as clusters
from launch.cluster.roll import Bounds
from suite.run import run_log
from tests.launch import processes

_LATE = 75


class WatchdogTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.log = os.path.join(self.folder, 'result_0.txt')
    with open(self.log, 'w', encoding='utf-8') as file:
      file.write(':::MLLOG {"key": "init_start"}\n:::MLLOG {"key": "half')

  def ranks(self, kind, rank, count=2):
    """Exit codes and what was printed to stderr, of all ranks."""
    started = [self.start(kind, rank, each) for each in local.places(count, 1)]
    said = [each.communicate(timeout=400)[1] for each in started]
    return [each.returncode for each in started], said

  def start(self, kind, rank, place):
    """One rank."""
    started = processes.start(
      'tests.launch.cluster.pretender',
      self.folder,
      kind,
      str(rank),
      environment=place,
    )
    self.addCleanup(started.wait)
    self.addCleanup(started.kill)
    return started

  def reason(self):
    with open(self.log, encoding='utf-8') as file:
      lines = [json.loads(line.partition(' ')[2]) for line in file]
    self.assertEqual(
      [line['key'] for line in lines], ['init_start', 'run_stop']
    )
    self.assertEqual(lines[-1]['metadata']['status'], 'aborted')
    return lines[-1]['metadata']['reason']

  @parameterized.named_parameters(
    ('killed', 'SIGKILL', 1, 'its process was ended by SIGKILL'),
    ('the_first_killed', 'SIGKILL', 0, 'its process was ended by SIGKILL'),
    ('exits', 'exits', 1, 'its process ended unasked, with exit code 3'),
    (
      'stopped',
      'SIGSTOP',
      1,
      r'no progress for \d s, last at tick 20 in input, where its process is '
      'stopped; the others waited',
    ),
    (
      'hangs',
      'hangs',
      0,
      r'no progress for \d s, last at tick 20 in input; the others waited',
    ),
  )
  def test_a_rank_that_is_lost_or_late_ends_all_by_name(self, kind, rank, says):
    codes, said = self.ranks(kind, rank)
    self.assertEqual(codes, [_LATE, _LATE], said)
    for text in (*said, self.reason()):
      self.assertRegex(text, rf'rank {rank} \(\S+\): {says}')
    # Of what still ran it is known where.
    stacks = os.path.join(self.folder, f'stacks_rank{1 - rank}.txt')
    with open(stacks, encoding='utf-8') as file:
      self.assertRegex(file.read(), r'pretender.py", line \d+ in _wait')

  def test_the_stack_of_a_stopped_process_is_had_even_if_it_cannot_be_kept(
    self,
  ):
    os.mkdir(os.path.join(self.folder, 'stacks_rank0.txt'))  # in the way
    _, (said,) = self.ranks('SIGSTOP', 0, count=1)
    # It runs on for a moment before it is asked.
    self.assertRegex(said, r'pretender.py", line \d+ in _(happens|work|wait)')
    self.assertIn('its stacks could not be written: [Errno', said)

  def test_an_exception_on_one_rank_ends_all_and_is_told(self):
    codes, said = self.ranks('raises', 1)
    self.assertEqual(codes, [_LATE, 1], said)
    for text in (*said, self.reason()):
      self.assertRegex(
        text, r'rank 1 \(\S+\): RuntimeError: this rank has had enough'
      )

  def test_a_refusal_of_one_rank_is_one_of_all(self):
    codes, said = self.ranks('refuses', 1)
    self.assertEqual(codes, [2, 2], said)
    self.assertIn('this rank lacks its data', said[0])
    self.assertEqual(said[1].count('this rank lacks its data'), 1)

  @parameterized.parameters('SIGTERM', 'SIGINT')
  def test_a_signal_to_one_rank_reaches_all(self, name):
    codes, said = self.ranks(name, 1)
    self.assertEqual(codes, [128 + getattr(signal, name)] * 2, said)

  def test_a_second_signal_ends_a_rank_at_once(self):
    codes, said = self.ranks('twice', 0, count=1)
    self.assertEqual(codes, [130], said)

  @parameterized.parameters(0, 1)
  def test_a_lost_supervisor_takes_its_worker_along_and_ends_all(self, rank):
    codes, said = self.ranks('supervisor', rank)
    self.assertEqual(codes[rank], -signal.SIGKILL)
    self.assertEqual(codes[1 - rank], _LATE)
    for text in (said[1 - rank], self.reason()):
      self.assertRegex(text, rf'rank {rank} \(\S+\): its connection was closed')
    workers = subprocess.run(
      ('pgrep', '-f', self.folder), capture_output=True, text=True
    )
    self.assertEqual(workers.stdout, '')

  def test_a_worker_ends_with_its_supervisor_from_its_first_moment_on(self):
    parent = self.start('hangs', 0, local.places(1, 1)[0])
    children = f'/proc/{parent.pid}/task/{parent.pid}/children'
    while not (found := _read(children).strip()):
      self.assertIsNone(parent.poll())
    while worker.VARIABLE not in _read(f'/proc/{found}/environ'):
      self.assertIsNone(parent.poll())  # its program is being loaded
    os.kill(int(found), signal.SIGSTOP)  # it does nothing any more by itself
    parent.kill()
    parent.wait()
    while _read(f'/proc/{found}/cmdline'):
      pass

  def test_ranks_that_finish_end_well_and_leave_the_log_alone(self):
    codes, said = self.ranks('finishes', 0, count=3)
    self.assertEqual((codes, said), ([0, 0, 0], ['', '', '']))
    self.assertIsNone(run_log.ending(self.log))

  def test_different_settings_are_refused_and_named(self):
    codes, said = self.ranks('differs', 1)
    self.assertEqual(codes, [2, 2])
    for text in said:
      self.assertRegex(
        text, r'error: rank 1 \(.*differs from .* in kind: other, not same.'
      )
    self.assertIsNone(run_log.ending(self.log))

  def test_a_rank_that_refuses_before_all_have_met_ends_all_by_what_it_says(
    self,
  ):
    for rank in (0, 1):
      codes, said = self.ranks('cannot', rank)
      self.assertEqual(codes, [2, 2])
      self.assertEqual(said[rank], 'error: this rank has other flags\n')
      self.assertRegex(
        said[1 - rank], rf'error: rank {rank} \(\S+\): this rank has other'
      )

  def test_a_rank_that_dies_as_it_starts_ends_those_too_that_come_later(self):
    first, second, third = local.places(3, 1)
    waiting = self.start('finishes', 0, first)
    self.dies_as_it_starts('while not me.connection: pass', second)
    said = [waiting.stderr.readline()]
    late = self.start('finishes', 0, third)
    said.append(late.communicate(timeout=100)[1])
    self.assertEqual((waiting.wait(100), late.returncode), (_LATE, _LATE), said)
    for text in said:
      self.assertRegex(
        text, r'rank 1 \(\S+\): its connection was closed before all had come'
      )

  def test_rank_0_that_dies_as_it_starts_ends_those_that_have_come(self):
    first, second = local.places(2, 1)
    waiting = self.start('finishes', 0, second)
    self.dies_as_it_starts(
      'came = [me.listen().accept() for _ in range(2)]', first
    )
    said = waiting.communicate(timeout=100)[1]
    self.assertEqual(waiting.returncode, _LATE, said)
    self.assertRegex(said, '^rank 0: its connection was closed')

  def dies_as_it_starts(self, until, place):
    """A rank that is there and ends before it could say anything more."""
    program = f"""
import os
from launch.cluster import arrival
arrival.announce()
me = arrival._announced
{until}
os._exit(3)  # as an import that fails, for one
"""
    environment = {**os.environ, **place}
    done = subprocess.run(
      [sys.executable, '-c', program], cwd=processes.ROOT, env=environment
    )
    self.assertEqual(done.returncode, 3)


class ConcludeTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda worker: None, False),  # it has refused, and the log is another's
    (lambda worker: worker.stage('compiling'), True),
    (lambda worker: worker.at('input', 0), False),
  )
  def test_what_ended_in_startup_is_moved_out_of_the_way(self, beat, moved):
    folder = self.create_tempdir().full_path
    aside = []
    one = supervisor._Supervisor(
      supervisor.Job(
        supervisor.alone(),
        Bounds(),
        dict,
        folder,
        '',
        set_aside=lambda: aside.append(1),
      ),
      folder,
    )
    beat(beats.Beats(os.path.join(folder, worker.BEATS)))
    code = asyncio.run(one._conclude(supervisor._Ending(_LATE)))
    self.assertEqual(code, _LATE)
    self.assertLen(aside, int(moved))

  def test_rank_1_ends_the_log_of_a_rank_0_that_was_ahead_of_its_worker(self):
    folder = self.create_tempdir().full_path
    log = os.path.join(folder, 'result_0.txt')
    place = clusters.Place('test', '127.0.0.1:1', 2, 1)
    for begun in (False, True):
      with open(log, 'w', encoding='utf-8') as file:
        file.write(':::MLLOG {"key": "init_start"}\n')
      one = supervisor._Supervisor(
        supervisor.Job(place, Bounds(), dict, folder, log), folder
      )
      self.addCleanup(one._arrival.give_up)
      with mock.patch.object(
        asyncio, 'create_subprocess_exec', side_effect=InterruptedError
      ):
        said = one._said_go({'kind': 'go', 'hosts': ['a', 'a']})
        self.assertRaises(InterruptedError, asyncio.run, said)
      if begun:
        with open(log, 'a', encoding='utf-8') as file:
          file.write(':::MLLOG {"key": "seed"}\n')
      ending = one._first_lost('its connection was closed')
      asyncio.run(one._conclude(ending))
      end = run_log.ending(log)
      self.assertEqual(end and end['reason'], ending.text if begun else None)


def _read(path):
  """The content of a file of /proc; '' without one."""
  try:
    with open(path, encoding='utf-8') as file:
      return file.read()
  except (FileNotFoundError, ProcessLookupError):
    return ''


class CompleteTest(absltest.TestCase):
  def test_a_log_that_has_its_end_is_left_alone(self):
    end = ':::MLLOG {"key": "run_stop", "metadata": {"status": "success"}}\n'
    log = self.create_tempfile(content=end)
    self.assertFalse(run_log.complete(log.full_path, 'late'))
    self.assertEqual(log.read_text(), end)

  def test_a_log_that_is_not_there_is_not_made(self):
    path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')
    self.assertFalse(run_log.complete(path, 'late'))
    self.assertFalse(os.path.exists(path))


if __name__ == '__main__':
  absltest.main()
