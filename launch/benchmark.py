r"""Makes a benchmark result: N runs, each a fresh process, checked and scored.

python -m launch.benchmark --benchmark=resnet --size=tiny

Every run gets a seed from the operating system and a log of its own. Ended in
the middle, the same command with --output=DIR goes on: finished runs stay, an
unfinished one is set aside and made again from the start. Exit code: 0 scored,
1 no score or a run failed, 2 refused, 128 + n ended by signal n.
"""

import glob
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Any

from absl import flags as absl_flags

from input_pipelines import dataset
from launch import flags, progress, report, score, system
from suite import files, hparams, run_log
from suite.report.format import duration

FLAGS = absl_flags.FLAGS

_SET_ASIDE = 'interrupted'


def define_flags() -> None:
  """The shared flags, and those of a set of runs."""
  flags.define_run_flags()
  absl_flags.adopt_module_key_flags(flags)  # so that --help shows them
  absl_flags.DEFINE_string(
    'output', '', 'Directory of the set; by default a new one under results/.'
  )
  absl_flags.DEFINE_integer(
    'runs', None, 'How many; by default what the rules want.', lower_bound=1
  )


def main() -> int:
  """Runs the set; see the module."""
  request = flags.request()
  runs = FLAGS.runs or request.benchmark.runs
  output = FLAGS.output or _new_output(request)
  _claim(output, _settings(request, runs))
  runner = _Runner(request, output, runs)
  print(
    f'{runs} runs of {request.benchmark.name}, size {request.size_name}, until '
    f'{request.size.target}; logs in {output}',
    flush=True,
  )
  for run in range(runs):
    ended = runner.run(run)
    if ended:
      again = ['python', '-m', 'launch.benchmark', *flags.as_arguments()]
      again += [f'--runs={runs}', f'--output={output}']
      print(f'To go on from here:\n  {shlex.join(again)}', file=sys.stderr)
      return ended
  return _conclude(output)


def _new_output(request: flags.Request) -> str:
  stamp = time.strftime('%Y%m%d-%H%M%S')
  name = f'{request.benchmark.name}-{request.size_name}-{stamp}'
  return os.path.join('results', name)


def _settings(request: flags.Request, runs: int) -> dict[str, Any]:
  """What must be alike in all runs of a set; checks the data on the way."""
  task = request.benchmark.task(request.hparams, request.size.data)
  directory = dataset.find(FLAGS.data_dir, request.size.data.name)
  task.verify_data(directory)
  values = {d.name: d.value for d in hparams.declared(request.hparams)}
  return {
    'benchmark': request.benchmark.name,
    'size': request.size_name,
    'division': request.division.value,
    'runs': runs,
    'hyperparameters': json.loads(json.dumps(values)),
    'data': dataset.fingerprint(directory),
    'versions': system.versions(),
  }


def _claim(output: str, settings: dict[str, Any]) -> None:
  """Makes the set's directory, or finds there the same set to go on with."""
  files.claim_directory(output)
  path = os.path.join(output, 'set.json')
  if not os.path.exists(path):
    if os.listdir(output):
      raise ValueError(f'{output} holds other files and no set.json.')
    files.write_json(path, settings)
    return
  before = files.read_json(path)
  changed = [name for name in settings if before.get(name) != settings[name]]
  if changed:
    raise ValueError(
      f'{output} holds a set with other settings ({", ".join(changed)}); runs '
      'of one set must be alike: give another --output.'
    )


class _Runner:
  """Runs one after another in processes of their own, and shows them."""

  def __init__(self, request: flags.Request, output: str, runs: int):
    self._target = request.size.target
    self._output = output
    self._runs = runs
    self._line = progress.LiveLine(sys.stdout)
    self._took: list[float] = []  # seconds of each run made here
    self._signal: int | None = None

  def run(self, run: int) -> int:
    """Makes the run if it is not finished; 0, or an exit code to end on."""
    record_path = files.record_path(self._output, run)
    log_path = files.log_path(self._output, run)
    if os.path.exists(record_path) and run_log.ending(log_path):
      print(f'{self._head(run)} finished before', flush=True)
      return 0
    _set_aside(self._output, run)
    before = time.monotonic()
    code = self._child(run)
    if self._signal is not None:
      return 128 + self._signal
    errors = _errors_path(self._output, run)
    if not os.path.exists(record_path):
      print(f'run {run} failed (exit code {code}):', file=sys.stderr)
      print(_tail(errors), file=sys.stderr)
      return 1
    self._took.append(time.monotonic() - before)
    if not os.path.getsize(errors):
      os.remove(errors)
    came_to = progress.outcome(files.read_json(record_path)).partition(': ')[2]
    remains = f'; {self._remains(run + 1, 0.0)}' if run + 1 < self._runs else ''
    self._line.keep(f'{self._head(run)} {came_to}{remains}')
    return 0

  def _child(self, run: int) -> int:
    command = [sys.executable, '-m', 'launch.train', *flags.as_arguments()]
    command += [f'--output={self._output}', f'--run={run}', '--progress=json']
    with open(_errors_path(self._output, run), 'w', encoding='utf-8') as errors:
      child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,  # signals reach it through us, once
      )
      restore = self._pass_signals_on(child)
      try:
        self._show(run, child)
        return child.wait()
      finally:
        restore()

  def _pass_signals_on(self, child: subprocess.Popen):
    def handle(number, frame):
      del frame
      if self._signal is not None:
        child.kill()  # asked twice: at once
      self._signal = number
      child.send_signal(number)

    before = {
      each: signal.signal(each, handle)
      for each in (signal.SIGINT, signal.SIGTERM)
    }
    return lambda: [signal.signal(n, handler) for n, handler in before.items()]

  def _show(self, run: int, child: subprocess.Popen) -> None:
    began, steps, quality = time.monotonic(), 0, ''
    stepping = began
    for line in child.stdout:
      try:
        event = json.loads(line)
      except ValueError:
        continue  # a library's own print
      if event['event'] == 'stage':
        steps, stepping = event['steps'], time.monotonic()
        self._line.show(f'{self._head(run)} {event["text"]} ...')
      elif event['event'] == 'quality':
        quality = (
          f'{progress.place(event["at"])}: '
          f'{progress.qualities(event["quality"])} (target {self._target}), '
          f'{duration(event["seconds"])}'
        )
        self._line.keep(f'{self._head(run)} {quality}')
      else:
        elapsed = time.monotonic() - stepping
        text = progress.step_text(event['step'], steps, event['loss'], elapsed)
        remains = self._remains(run, time.monotonic() - began)
        self._line.show(f'{self._head(run)} {text}; {remains}')
    self._line.clear()

  def _head(self, run: int) -> str:
    return f'run {run} ({run + 1} of {self._runs}):'

  def _remains(self, run: int, elapsed: float) -> str:
    if not self._took:
      return f'{self._runs - run - 1} more runs after this'
    each = sum(self._took) / len(self._took)
    left = max(0.0, each - elapsed) + each * (self._runs - run - 1)
    return f'about {duration(left)} remain'


def _set_aside(output: str, run: int) -> None:
  """Moves what an unfinished attempt left, so that no file is used twice."""
  paths = (files.log_path, files.record_path, _errors_path)
  left = [path for of in paths if os.path.exists(path := of(output, run))]
  if not left:
    return
  attempts = glob.glob(os.path.join(output, _SET_ASIDE, f'run_{run}_*'))
  place = os.path.join(output, _SET_ASIDE, f'run_{run}_{len(attempts)}')
  os.makedirs(place)
  for path in left:
    os.rename(path, os.path.join(place, os.path.basename(path)))
  print(f'run {run}: an unfinished attempt was moved to {place}')


def _errors_path(output: str, run: int) -> str:
  return os.path.join(output, f'run_{run}.err')


def _tail(path: str, lines: int = 15) -> str:
  with open(path, encoding='utf-8', errors='replace') as file:
    return ''.join(file.readlines()[-lines:]).rstrip()


def _conclude(output: str) -> int:
  """Checks, scores, reports; the last lines say what a person wants to know."""
  print()
  command = ['python', '-m', 'launch.benchmark', *sys.argv[1:]]
  code = score.run(output, command=command)
  page = report.write(output)
  aside = glob.glob(os.path.join(output, _SET_ASIDE, 'run_*'))
  if aside:
    print(f'Attempts set aside unfinished: {len(aside)}')
  print(f'Report: {os.path.abspath(page)}')
  return code


if __name__ == '__main__':
  flags.run(main, define=define_flags)
