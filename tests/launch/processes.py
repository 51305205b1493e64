"""Runs entrypoints in processes of their own, as people do."""

from collections.abc import Mapping
import contextlib
import io
import os
import pathlib
import subprocess
import sys
from types import ModuleType

from absl import flags

from launch.support import cli
from tests.launch import entrypoint_flags

ROOT = pathlib.Path(__file__).parent.parent.parent

# A ResNet that compiles and trains in seconds; too small to reach the target.
QUICK = (
  '--division=open', '--hp=stage_blocks=1', '--hp=stage_width=4',
  '--hp=global_batch_size=500', '--hp=model_bn_span=125',
  '--hp=eval_batch_size=500', '--hp=max_epochs=2',
)  # fmt: skip
# The same with a last eval batch that is not full; up to four processes can
# share it, as batch norm's groups lie within one of them.
QUICK_ON_SEVERAL = tuple(
  each.replace('eval_batch_size=500', 'eval_batch_size=300') for each in QUICK
)


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
    timeout=300,
  )


def run(
  module: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
  """`python -m module arguments`, to its end: its code, stdout and stderr."""
  process = start(module, *map(str, arguments), environment=environment)
  out, errors = process.communicate(timeout=900)
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
        code = module.main()
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
