r"""Makes a benchmark result: N runs, each a fresh process, checked and scored.

python -m launch.benchmark --benchmark=resnet --size=tiny

Every run gets a seed from the operating system and a log of its own. Ended in
the middle, the same command with --output=DIR continues: finished runs stay, an
unfinished one is set aside and made again from the start, unless --resume
continues it from its checkpoint. Exit code: 0 scored, 1 no score or a run
failed, 2 refused, 128 + n ended by signal n.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import glob
import json
import os
import shlex
import subprocess
import sys
import time
from typing import Any

from absl import flags as absl_flags

from input_pipelines.reading import dataset
from launch import report, score
from launch.cluster import attempts, locks
from launch.support import (
  cli,
  listing,
  progress,
  run_flags,
  signals,
  versions,
)
from launch.support.live_line import LiveLine
from suite import files
from suite.results import records
from suite.results.report.format import duration
from suite.run import run_log
from suite.run.blocks import where

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The shared flags, and those of a set of runs."""
  run_flags.define()
  with cli.group(cli.WHAT, first=('runs',)):
    absl_flags.DEFINE_integer(
      'runs', None, 'How many; by default what the rules want.', lower_bound=1
    )
  with cli.group(cli.RESULT, first=('output', 'resume')):
    absl_flags.DEFINE_string(
      'output', '', 'Directory of the set; by default a new one under results/.'
    )
    absl_flags.DEFINE_bool(
      'resume',
      False,
      'Resumes an unfinished run from its checkpoint. The time since then '
      'counts, so a set that is finished the next day has a run of a day.',
    )


def main() -> int:
  """Runs the set; see the module."""
  if FLAGS.list:
    print(listing.benchmarks(FLAGS.data_dir))
    return 0
  request = run_flags.request()
  runs = FLAGS.runs or request.benchmark.runs
  output = FLAGS.output or _new_output(request)
  lock = claim(output, settings(request, runs))
  runner = Runner(request, output, runs, lock=lock, resume=FLAGS.resume)
  print(
    f'{runs} runs of {request.benchmark.name}, size {request.size_name}, until '
    f'{request.size.target}; logs in {output}',
    flush=True,
  )
  for run in range(runs):
    ended = runner.run(run)
    if ended:
      again = ['python', '-m', 'launch.benchmark', *run_flags.as_arguments()]
      again += [f'--runs={runs}', f'--output={output}']
      again += ['--resume'] if FLAGS.resume else []
      print(f'To continue from here:\n  {shlex.join(again)}', file=sys.stderr)
      return ended
  return _conclude(output)


def _new_output(request: run_flags.Request) -> str:
  stamp = time.strftime('%Y%m%d-%H%M%S')
  name = f'{request.benchmark.name}-{request.size_name}-{stamp}'
  return os.path.join('results', name)


def settings(request: run_flags.Request, runs: int) -> dict[str, Any]:
  """Settings that all runs of a set must share; checks the data on the way."""
  from launch.support import start  # with JAX, which --list does not wait for

  task = request.benchmark.task(request.hparams, request.size.data)
  directory = dataset.find(FLAGS.data_dir, request.size.data.name)
  run_flags.require_reads(request, task.reads)
  task.inspect(directory)
  weights = start.weights(request.size, task, FLAGS.data_dir)
  return {
    **request.identity,
    'runs': runs,
    'profile': dataclasses.asdict(request.profile),
    'data': dataset.fingerprint(directory),
    **start.described(request.size, weights),
    'versions': versions.found(),
  }


def claim(output: str, settings: dict[str, Any]) -> int:
  """Makes the set's directory, or finds the same set there, to continue it.

  Returns the descriptor of its lock.
  """
  files.claim_directory(output)
  path = os.path.join(output, 'set.json')
  others = [
    name
    for name in os.listdir(output)
    # Another process may just begin a set here, or was killed as it did.
    if not locks.is_lock(name) and not files.is_partial(name)
  ]
  if others and not os.path.exists(path):
    raise ValueError(f'{output} holds other files and no set.json.')
  lock = locks.of_set(output)
  if not os.path.exists(path):
    files.write_json(path, settings)
    return lock
  before = files.read_json(path)
  changed = [name for name in settings if before.get(name) != settings[name]]
  if changed:
    raise ValueError(
      f'{output} holds a set with other settings ({", ".join(changed)}); runs '
      'of one set share their settings: give another --output.'
    )
  return lock


class Pace:
  """Estimates the time that the remaining runs of a set take."""

  def __init__(self, runs: int):
    self._left = runs
    self._took: list[float] = []  # seconds of each run made here

  def done(self, seconds: float | None = None) -> None:
    """One more is finished; without `seconds` it was so before."""
    self._left -= 1
    if seconds is not None:
      self._took.append(seconds)

  def text(self, elapsed: float = 0.0) -> str:
    """'about 2 min remain', `elapsed` seconds into a run; '' at the end."""
    if not self._left:
      return ''
    if not self._took:
      return f'{self._left - 1} more runs after this'
    each = sum(self._took) / len(self._took)
    return f'about {duration(each * self._left - min(elapsed, each))} remain'


class Runner:
  """Runs one after another in processes of their own, and shows them."""

  def __init__(
    self,
    request: run_flags.Request,
    output: str,
    runs: int,
    *,
    lock: int,
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    start: Sequence[str] = ('launch.train',),
    name: str = '',
    pace: Pace | None = None,
    resume: bool = False,
  ):
    """The shared flags are this process's unless `arguments` are given.

    Args:
      request: what is run.
      output: directory of the set.
      runs: how many make it.
      lock: descriptor that `claim` gave, which runs inherit.
      arguments: the shared flags, as launch.train takes them.
      environment: variables beside those of this process.
      start: module, and its arguments, that launch.train is started by.
      name: of the set, said before each of its lines.
      pace: where several sets take turns, that of all of them.
      resume: whether an unfinished run resumes from its checkpoint.
    """
    self._target = request.size.target
    self._output = output
    self._runs = runs
    self._lock = lock
    if arguments is None:
      arguments = run_flags.as_arguments()
    self._arguments = arguments
    self._environment = {
      **os.environ,
      **(environment or {}),
      locks.HOLDER: locks.holder(),
    }
    self._start = start
    self._name = name
    self._resume = resume
    self._pace = pace or Pace(runs)
    self._line = LiveLine(sys.stdout)
    self._signal: int | None = None
    self._said = collections.deque(maxlen=15)  # of the run, but not events

  def run(self, run: int) -> int:
    """Makes the run if it is not finished; 0, or an exit code to end on."""
    record_path = files.record_path(self._output, run)
    log_path = files.log_path(self._output, run)
    found = run_log.ending(log_path)
    if found and os.path.exists(record_path):
      print(f'{self._head(run)} finished before', flush=True)
      self._pace.done()
      return 0
    if found and found.get('status') == run_log.SUCCESS:
      print(
        f'run {run} met its target, but {record_path} is missing: put it '
        f'there, as {_errors_path(self._output, run)} says; or move {log_path} '
        'away for another run.',
        file=sys.stderr,
      )
      return 1
    if not self._goes_on(run):
      errors = _errors_path(self._output, run)
      attempts.set_aside(self._output, run, (errors,))
    before = time.monotonic()
    code = self._child(run)
    if self._signal is not None:
      return 128 + self._signal
    errors = _errors_path(self._output, run)
    if not os.path.exists(record_path):
      print(f'run {run} failed (exit code {code}):', file=sys.stderr)
      print('\n'.join([*self._said, _tail(errors)]), file=sys.stderr)
      return 1
    self._pace.done(time.monotonic() - before)
    if not os.path.getsize(errors):
      os.remove(errors)
    outcome = progress.outcome_text(records.read_run(record_path))
    remains = f'; {text}' if (text := self._pace.text()) else ''
    self._line.keep(f'{self._head(run)} {outcome}{remains}')
    return 0

  def _goes_on(self, run: int) -> bool:
    log_path = files.log_path(self._output, run)
    return self._resume and os.path.exists(log_path)

  def _child(self, run: int) -> int:
    command = [sys.executable, '-m', *self._start, *self._arguments]
    command += [f'--output={self._output}', f'--run={run}', '--progress=json']
    command += ['--resume'] if self._goes_on(run) else []
    children = signals.Children(second_kills=True)
    with (
      open(_errors_path(self._output, run), 'w', encoding='utf-8') as errors,
      signals.handled(children.handle, signals.ending()),
    ):
      child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=self._environment,
        text=True,
        pass_fds=(self._lock,),
        start_new_session=True,  # signals reach it through us, once
      )
      children.add(child)
      self._show(run, child)
      code = child.wait()
    self._signal = children.signal
    return code

  def _show(self, run: int, child: subprocess.Popen) -> None:
    began, steps, quality = time.monotonic(), 0, ''
    self._said.clear()
    stepping = began
    for line in child.stdout:
      try:
        event = json.loads(line[max(0, line.find('{')) :])  # after a rank
      except ValueError:
        self._said.append(line.rstrip())  # a library's, or what a rank says
        continue
      if event['event'] == 'stage':
        steps, stepping = event['steps'], time.monotonic()
        self._line.show(f'{self._head(run)} {event["text"]} ...')
      elif event['event'] == 'resumed':
        text = progress.resumed_text(event['step'], event['lost'])
        self._line.keep(f'{self._head(run)} {text}')
      elif event['event'] == 'warning':
        self._line.keep(f'{self._head(run)} warning: {event["text"]}')
      elif event['event'] == 'quality':
        quality = (
          f'{where(event["at"])}: '
          f'{progress.qualities(event["quality"])} (target {self._target}), '
          f'{duration(event["seconds"])}'
        )
        self._line.keep(f'{self._head(run)} {quality}')
      else:
        elapsed = time.monotonic() - stepping
        text = progress.step_text(event['step'], steps, event['loss'], elapsed)
        remains = self._pace.text(time.monotonic() - began)
        self._line.show(f'{self._head(run)} {text}; {remains}')
    self._line.clear()

  def _head(self, run: int) -> str:
    name = f'{self._name}, ' if self._name else ''
    return f'{name}run {run} ({run + 1} of {self._runs}):'


def _errors_path(output: str, run: int) -> str:
  return os.path.join(output, f'run_{run}.err')


def _tail(path: str, lines: int = 15) -> str:
  with open(path, encoding='utf-8', errors='replace') as file:
    return ''.join(file.readlines()[-lines:]).rstrip()


def _conclude(output: str) -> int:
  """Checks, scores and reports; the last lines are the result."""
  print()
  command = ['python', '-m', 'launch.benchmark', *sys.argv[1:]]
  code = score.run(output, command=command)
  page = report.write(output)
  aside = glob.glob(os.path.join(output, attempts.SET_ASIDE, 'run_*'))
  if aside:
    print(f'Attempts set aside unfinished: {len(aside)}')
  print(f'Report: {os.path.abspath(page)}')
  return code


if __name__ == '__main__':
  cli.run(main, define=define_flags, measures=True)
