"""Runs entrypoints in processes of their own, as people do."""

from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import subprocess
import sys
import types
from types import ModuleType

from absl import flags

from launch.support import cli
from tests import quick as compilation
from tests import session
from tests.launch import digits_data, entrypoint_flags

ROOT = pathlib.Path(__file__).parent.parent.parent

# Seconds of a wait for what takes a few where nothing else is at work.
LONGEST = 900

_QUICK = types.MappingProxyType({
  'image_size': 8, 'stage_blocks': 1, 'stage_width': 4,
  'global_batch_size': 512, 'model_bn_span': 64, 'eval_batch_size': 304,
  'max_epochs': 2,
})  # fmt: skip


def quick(**changes: object) -> tuple[str, ...]:
  """Flags of a ResNet that compiles and trains in seconds, 8 steps an epoch.

  It is too small to reach the target, and its last eval batch is not full. Up
  to eight devices or processes can share it, as batch norm's groups lie within
  one of them.
  """
  hparams = {**_QUICK, **changes}
  return ('--division=open', *(f'--hp={k}={v}' for k, v in hparams.items()))


QUICK = quick()
# For programs that no other test has; a record keeps them from `reproduce`.
QUICKLY_COMPILED = tuple(
  f'--compiler_option={name}={str(value).lower()}'
  for name, value in compilation.OPTIONS.items()
)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run of its own process that has ended, and what it printed."""

  folder: str
  returncode: int
  stdout: str
  stderr: str


@functools.cache
def quick_run() -> Run:
  """The run of QUICK with seed 7, made once for all tests of a session.

  Two processes read its data, and it begins with a preflight.
  """

  def make(folder):
    done = run(
      'launch.train', *QUICK, '--seed=7', '--input_processes=2', '--preflight',
      f'--output={folder}/run', f'--data_dir={digits_data.data_dir()}',
    )  # fmt: skip
    said = (done.returncode, done.stdout, done.stderr)
    with open(f'{folder}/said.json', 'w', encoding='utf-8') as file:
      json.dump(said, file)

  folder = session.once('quick_run', make)
  with open(f'{folder}/said.json', encoding='utf-8') as file:
    return Run(f'{folder}/run', *json.load(file))


def start(
  module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
  """Starts `python -m module` with piped, unbuffered text output."""
  return subprocess.Popen(
    [sys.executable, '-u', '-m', module, *arguments],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1', **(environment or {})},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run_program(text: str) -> subprocess.CompletedProcess:
  """`python -c text`, to its end: its code, stdout and stderr."""
  return subprocess.run(
    [sys.executable, '-c', text],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=LONGEST,
  )


def run(
  module: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
  """`python -m module arguments`, to its end: its code, stdout and stderr."""
  process = start(module, *map(str, arguments), environment=environment)
  out, errors = process.communicate(timeout=LONGEST)
  return subprocess.CompletedProcess(
    process.args, process.returncode, out, errors
  )


def here(module: ModuleType, *arguments: object) -> subprocess.CompletedProcess:
  """`launch.<name> arguments` in this process, which has imported it already.

  For what needs no process of its own: most of its time would be imports.
  """
  names = entrypoint_flags.define(module)
  out, errors = io.StringIO(), io.StringIO()
  try:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
      given = flags.FLAGS([module.__name__, *map(str, arguments)])
      try:
        code = module.main(*given[1:])
      except (ValueError, OSError) as error:
        code = cli.refuse(str(error))
  finally:
    entrypoint_flags.remove(names)
  return subprocess.CompletedProcess(
    given, code, out.getvalue(), errors.getvalue()
  )


def catches(pid: int, number: int) -> bool:
  """Returns whether a process has a handler of its own for a signal."""
  with open(f'/proc/{pid}/status', encoding='utf-8') as file:
    mask = next(line for line in file if line.startswith('SigCgt'))
  return bool(int(mask.split()[1], 16) >> (number - 1) & 1)
