"""Files of others, in random forms, given to the commands that read them.

No command hangs over one, eats memory, runs code of it or writes to what it
points to. See repeated.py for how often.
"""

import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time

from absl.testing import absltest
import pytest

from launch import report, score
from tests.launch import digits_data, processes, repeated
from tests.suite.results import sample_results

_SECONDS = 90  # a command of a few seconds, on a busy machine
_BYTES = 2 << 30  # of memory, which JAX takes a quarter of


def _pipe(path):
  os.mkfifo(path)


def _zeros(path):
  path.symlink_to('/dev/zero')


def _own_pipe(path):
  other = path.with_name('other')
  os.mkfifo(other)
  path.symlink_to(other)


def _folder(path):
  path.mkdir()


def _huge(path):
  path.touch()
  os.truncate(path, 1 << 40)  # no disk has it all


def _brackets(path):
  path.write_text('[' * 100_000)


def _aliases(path):
  names = 'abcdefghi'
  lines = ['a: &a [x, x, x, x, x, x, x, x, x]']
  for one, other in itertools.pairwise(names):
    lines.append(f'{other}: &{other} [{", ".join(9 * ["*" + one])}]')
  path.write_text('\n'.join(lines))


_PLANTS = (_pipe, _zeros, _own_pipe, _folder, _huge, _brackets, _aliases)
# A command and a file that it reads; {} is the folder.
_READERS = (
  ('report', ('--output={}',), 'run_0.json'),
  ('report', ('--output={}',), 'run_1.json'),
  ('report', ('--output={}',), 'score.json'),
  ('report', ('--output={}/page', '--set={}/set'), 'set/result_0.txt'),
  ('report', ('--output={}/page', '--set={}/set'), 'set/result_1.txt'),
  ('reproduce', ('{}/run_0.json',), 'run_0.json'),
  ('submit', ('--job={}/job.yaml', '--target=local'), 'job.yaml'),
  ('scaling', ('--jobs={}/job.yaml', '--mode=weak', '--devices=8,16',
               '--batch=512', '--output={}/jobs'), 'job.yaml'),
  ('scaling', ('--collect={}', '--output={}/page'), 'one/run_0.json'),
  ('score', ('{}/set',), 'set/result_0.txt'),
  ('score', ('{}/set',), 'set/result_1.txt'),
  ('check', ('{}/set/result_0.txt',), 'set/result_0.txt'),
  ('check', ('{}/set',), 'set/result_1.txt'),
  ('convergence', ('--runs={}/set', '--ruleset=4.0.0'), 'set/result_0.txt'),
  ('convergence', ('--global_batch_size=512', '--rcps={}/points'), 'points'),
  ('convergence', ('--curves={}/curves.csv', '--make={}/made'), 'curves.csv'),
  ('package', ('--results={}/set', '--system=a', '--output={}/made'),
   'set/result_0.txt'),
  ('package', ('--results={}/set', '--system=a', '--output={}/made',
               '--description={}/rest.json'), 'rest.json'),
  ('benchmark', (*processes.QUICK, '--runs=1', '--output={}/set'),
   'set/set.json'),
  ('train', (*processes.QUICK, '--resume', '--output={}/set'),
   'set/result_0.txt'),
  ('train', (*processes.QUICK, '--watchdog_seconds=60', '--output={}/set'),
   'set/result_0.txt'),
)  # fmt: skip

# Names that commands write, or could be guessed to write at first.
_WRITTEN = (
  'report.html.partial', 'score.json.partial', 'report.partial', 'report',
  'report.html', 'score.json.tmp', 'report.html~', '.report.html',
)  # fmt: skip
# What a record may name that loads code or writes files; {} is a folder.
_VARIABLES = {
  'PYTHONPATH': '{}', 'PYTHONHOME': '{}', 'PYTHONSTARTUP': '{}/jax.py',
  'PYTHONUSERBASE': '{}', 'PYTHONPYCACHEPREFIX': '{}/cache', 'PATH': '{}',
  'LD_PRELOAD': '{}/no.so', 'LD_AUDIT': '{}/no.so', 'LD_LIBRARY_PATH': '{}',
  'XLA_FLAGS': '--xla_dump_to={}/dump', 'TF_XLA_FLAGS': '--flagfile={}/flags',
  'JAX_COMPILATION_CACHE_DIR': '{}/cache', 'JAX_DUMP_IR_TO': '{}/ir',
  'TPU_LIBRARY_PATH': '{}/no.so', 'NCCL_NET_PLUGIN': '{}/no.so',
  'LIBTPU_INIT_ARGS': '--flagfile={}/flags', 'GIT_DIR': '{}', 'HOME': '{}',
}  # fmt: skip
_FLAGS = (
  '--flagfile={}/flags', '--compile_cache={}/cache', '--output={}/out',
  '--compiler_option=xla_dump_to={}/dump', '--hp=a=b\n--flagfile={}/flags',
  '--resume', '--checkpoint_minutes=1', '--run=3',
)  # fmt: skip


def _fill(folder):
  """Makes a folder of whole files, as those that are read beside one."""
  for name in ('set', 'one'):
    (folder / name).mkdir(parents=True)
  results = sample_results.results(2)
  for made in results:
    (folder / f'run_{made["run"]}.json').write_text(json.dumps(made))
    for where in (folder, folder / 'set'):
      (where / f'result_{made["run"]}.txt').write_text('a log\n')
  score = json.dumps(sample_results.score(results))
  (folder / 'score.json').write_text(score)


@pytest.mark.slow
class SpecialFilesTest(repeated.RepeatedTestCase):
  """Pipes, devices, folders, endless and nested files in place of a text."""

  def test_a_command_refuses_one_in_bounded_time_and_memory(self):
    longest, most = 0.0, 0
    # Each reader at least once, and then those that come.
    readers = self.random.sample(_READERS, len(_READERS))
    readers += self.random.choices(_READERS, k=max(0, repeated.TIMES - 20))
    for command, arguments, name in readers:
      plant = self.random.choice(_PLANTS)
      folder = pathlib.Path(self.path('given'))
      _fill(folder)
      path = folder / name
      if path.exists():
        path.unlink()
      plant(path)
      with self.subTest(command=command, name=name, plant=plant.__name__):
        seconds, used = self.refused(command, arguments, folder, name)
        longest, most = max(longest, seconds), max(most, used)
      shutil.rmtree(folder)
    print(
      f'special files: {len(readers)}, each refused within {longest:.1f} s and '
      f'{most / 1e6:.0f} MB'
    )

  def refused(self, command, arguments, folder, name):
    """Seconds and bytes of memory that a command takes that refuses a file."""
    words = [each.format(folder) for each in arguments]
    if command in ('benchmark', 'train'):
      words.append(f'--data_dir={digits_data.data_dir()}')
    began = time.monotonic()
    process = processes.start(f'launch.{command}', *words)
    self.addCleanup(process.wait)
    self.addCleanup(process.kill)
    try:
      out, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
      self.fail(f'it does not end in {_SECONDS} s')
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    self.assertIn(process.returncode, (1, 2), errors)
    self.assertNotIn('Traceback', errors)
    self.assertRegex(out + errors, f'{folder}|{os.path.basename(name)}')
    self.assertLess(used, _BYTES)
    return seconds, used


@pytest.mark.slow
class PlantedTest(repeated.RepeatedTestCase):
  """Links and pipes where a command writes its results."""

  def test_a_command_writes_to_none_of_them(self):
    for number in range(repeated.TIMES):
      folder = pathlib.Path(self.path(f'{number}'))
      beside = pathlib.Path(self.path(f'{number}_beside'))
      _fill(folder)
      beside.mkdir()
      (beside / 'mine').write_text('mine')
      for name in self.random.sample(_WRITTEN, 4):
        self.plant(folder / name, beside)
      signal.alarm(_SECONDS)  # ends a test that waits for a pipe
      for command, argument in (
        (report, f'--output={folder}'),
        (score, str(folder)),
      ):
        done = processes.here(command, argument)
        self.assertIn(done.returncode, (0, 1, 2), done.stderr)
      signal.alarm(0)
      self.assertEqual(os.listdir(beside), ['mine'])
      self.assertEqual((beside / 'mine').read_text(), 'mine')
    print(f'{repeated.TIMES} times 4 planted: nothing was written elsewhere')

  def plant(self, path, beside):
    kind = self.random.choice(['link', 'new', 'folder', 'pipe'])
    if kind == 'pipe':
      os.mkfifo(path)
    else:
      to = {'link': beside / 'mine', 'new': beside / 'new', 'folder': beside}
      path.symlink_to(to[kind])


@pytest.mark.slow
class RecordTest(repeated.RepeatedTestCase):
  """A record of somebody else, whose settings would load code and files."""

  def test_what_it_names_is_neither_run_nor_written_to_and_is_shown(self):
    for number in range(repeated.TIMES):
      planted = pathlib.Path(self.path(f'{number}'))
      self.canary(planted)
      variables = self.random.sample(sorted(_VARIABLES), 5)
      given = {n: _VARIABLES[n].format(planted) for n in variables}
      flags = [f.format(planted) for f in self.random.sample(_FLAGS, 3)]
      record = sample_results.result(
        0, flags=['--size=no_such', *flags], environment=given
      )
      before = sorted(planted.rglob('*'))
      path = self.path('run_0.json')
      with open(path, 'w', encoding='utf-8') as file:
        json.dump(record, file)
      data = f'--data_dir={digits_data.data_dir()}'
      done = processes.run('launch.reproduce', path, data)
      # It came to be trained, as far as there is such a size.
      self.assertEqual(done.returncode, 1, done.stderr)
      self.assertIn('no_such', done.stderr)
      for said in (done.stdout, done.stderr):
        self.assertNotIn('canary', said)
      self.assertNotIn('ld.so', done.stderr)
      variables = set(variables) - {'JAX_COMPILATION_CACHE_DIR'}  # a place
      for text in (*variables, *map(ascii, flags)):
        self.assertIn(text, done.stdout)
      self.assertEqual(sorted(planted.rglob('*')), before)
    print(f'{repeated.TIMES} records: nothing was run or written, all shown')

  def canary(self, folder):
    """Programs that would say that they were run."""
    folder.mkdir()
    for name in ('sitecustomize', 'usercustomize', 'jax', 'numpy', 'json'):
      (folder / f'{name}.py').write_text('print("canary")\n')
    for name in ('python', 'python3', 'git', 'nvidia-smi', 'lscpu'):
      (folder / name).write_text('#!/bin/sh\necho canary\n')
      (folder / name).chmod(0o755)
    (folder / 'flags').write_text(f'--compile_cache={folder}/cache\n')


if __name__ == '__main__':
  absltest.main()
