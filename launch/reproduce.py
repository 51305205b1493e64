r"""Repeats a run from its record and compares every loss and eval.

python -m launch.reproduce results/first/run_0.json

The same flags, seed and environment variables go to a new `launch.train`; what
differs from the machine, versions, source and data of the record is told first.
A record may be somebody else's: flags and variables are taken from it only if
they can neither load code nor name a file. Others are shown; give such a flag
with --flag, and set such a variable, where the run needs it.
Then every loss and every eval is compared. Exit code: 0 they agree bit for bit,
or within --tolerance; 1 they do not, or the run failed; 2 refused.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

from absl import flags as absl_flags

from input_pipelines.reading import dataset
from launch import profiles
from launch.support import cli, environment, system, versions
from suite import benchmark as benchmark_lib
from suite import files
from suite.results import records
from suite.results.records import RunRecord

FLAGS = absl_flags.FLAGS

# Facts of the system that no result depends on, or that are set again.
_OTHERS = ('host', 'xla_flags', 'devices', 'devices_per_process')
# Flags that are taken from a record: they choose among what is here.
_HARMLESS = re.compile(
  '--(benchmark|size|division|hp|profile|model_axis|spread|platform'
  '|skip_corrupt_records|expect_devices|submission_org|submission_platform'
  '|submission_status)=.*|--(no)?groups_across_hosts'
)
# An option of XLA with a number or a switch; a text may name a file.
_OPTION = re.compile('--compiler_option=([a-z0-9_]+)=(-?[0-9.]+|true|false)')


def define_flags() -> None:
  """The flags of this command."""
  absl_flags.DEFINE_float(
    'tolerance',
    0.0,
    'Relative difference of a loss, and absolute one of a quality, that still '
    'counts as agreement; 0: bit for bit.',
    lower_bound=0.0,
  )
  absl_flags.DEFINE_string(
    'output', '', 'Directory for the new log and record; empty: none is kept.'
  )
  absl_flags.DEFINE_string(
    'data_dir', '', 'Where the data sets lie, if not where they lay then.'
  )
  absl_flags.DEFINE_multi_string(
    'flag',
    [],
    'A flag of launch.train beside those taken from the record, as '
    '--flag=--compile_cache=DIR; may be given again.',
  )


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Differences of two runs of one seed."""

  steps: tuple[int, int]  # trained, then and now
  first_step: int | None  # whose loss differs at all, counted from 1
  worst_loss: float  # largest relative difference; inf: only one is finite
  worst_quality: float  # largest absolute difference

  def agrees(self, tolerance: float) -> bool:
    """Returns whether all lies within the tolerance; 0 asks for equal bits."""
    return (
      self.steps[0] == self.steps[1]
      and self.worst_loss <= tolerance
      and self.worst_quality <= tolerance
    )

  def __str__(self) -> str:
    if self.agrees(0.0):
      return f'all {self.steps[0]} losses and every eval agree bit for bit'
    parts = []
    if self.steps[0] != self.steps[1]:
      parts.append(f'{self.steps[0]} steps then, {self.steps[1]} now')
    if self.first_step is not None:
      parts.append(
        f'losses differ from step {self.first_step} on, by at most '
        f'{self.worst_loss:.3g} of their size'
      )
    if self.worst_quality:
      parts.append(f'qualities differ by at most {self.worst_quality:.3g}')
    return '; '.join(parts)


def main(path: str) -> int:
  """Repeats the run of a record; returns the exit code."""
  before = _read(path)
  for text in left_out(before):
    print(f'not taken from the record: {text}')
  for line in _differences(before):
    print(f'differs: {line}')
  with tempfile.TemporaryDirectory() as scratch:
    output = FLAGS.output or scratch
    code = _train(before, output)
    record = files.record_path(output, 0)
    if not os.path.exists(record):
      print(f'error: the run failed, exit code {code}', file=sys.stderr)
      return 1
    found = compare(before, records.read_run(record))
  agrees = found.agrees(FLAGS.tolerance)
  bound = f' within {FLAGS.tolerance:g}' if FLAGS.tolerance else ''
  print(f'{"Reproduced" if agrees else "Not reproduced"}{bound}: {found}.')
  return 0 if agrees else 1


def left_out(record: RunRecord) -> list[str]:
  """Flags and variables of a record that are given by hand or not at all."""
  taken = (*harmless(record.flags), *FLAGS.flag)
  rest = [
    ascii(flag)
    for flag in record.flags
    if flag not in taken and not flag.startswith('--data_dir=')
  ]
  ours = profiles.load(record.profile).environment  # launch.train sets these
  return rest + [
    f'{name!a}, which was {value!a}'
    for name, value in environment.left_out(record.environment).items()
    if ours.get(name) != value
  ]


def harmless(flags: Sequence[str]) -> list[str]:
  """Flags of launch.train that can neither load code nor name a file."""
  return [
    flag
    for flag in flags
    if _HARMLESS.fullmatch(flag)
    or (
      (option := _OPTION.fullmatch(flag))
      and option[1] in profiles.known_options()
    )
  ]


def compare(before: RunRecord, after: RunRecord) -> Comparison:
  """Compares the losses and evals of two records."""
  losses = [[loss for _, loss in run.losses] for run in (before, after)]
  apart = [_apart(a, b, relative=True) for a, b in zip(*losses, strict=False)]
  evals = zip(before.evals, after.evals, strict=False)
  qualities = [
    _apart(value, now.quality.get(name), relative=False)
    for then, now in evals
    for name, value in then.quality.items()
  ]
  return Comparison(
    steps=(len(losses[0]), len(losses[1])),
    first_step=next((i for i, d in enumerate(apart, 1) if d), None),
    worst_loss=max(apart, default=0.0),
    worst_quality=max(qualities, default=0.0),
  )


def _apart(a: float | None, b: float | None, *, relative: bool) -> float:
  """Distance of two numbers; None stands for one that is not finite."""
  if a == b:
    return 0.0
  if a is None or b is None:
    return math.inf
  return abs(a - b) / (max(abs(a), abs(b)) if relative else 1.0)


def _read(path: str) -> RunRecord:
  record = records.read_run(path)
  processes = record.system.get('processes', 1)
  if processes != 1:
    raise ValueError(
      f'Expected a run of one process, got {processes} in {path}: start its '
      'command under the same launcher, with the same --seed.'
    )
  return record


def _differences(record: RunRecord) -> Sequence[str]:
  """Differences from then, one line each: 'numpy: 2.4.6 then, 2.5.0 now'."""
  recorded = record.versions
  commit = recorded.get('commit', 'unknown')
  lines = _changed(recorded, versions.found())
  if commit.endswith('+changes'):
    lines.append('the source then had changes that no commit holds')
  size = benchmark_lib.get(record.benchmark).size(record.size)
  directory = dataset.find(_data_dir(record), size.data.name)
  lines += _changed(_sought(record.system), _sought(system.describe(directory)))
  fingerprint = dataset.fingerprint(directory)
  if fingerprint != record.data.fingerprint:
    lines.append(
      f'data set {record.data.name}: fingerprint {record.data.fingerprint} '
      f'then, {fingerprint} now'
    )
  return lines


def _sought(described: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: value
    for name, value in described.items()
    if name not in _OTHERS and isinstance(value, str | int | float)
  }


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  names = dict.fromkeys([*then, *now])
  return [
    f'{name}: {then.get(name, "none")} then, {now.get(name, "none")} now'
    for name in names
    if then.get(name) != now.get(name)
  ]


def _data_dir(record: RunRecord) -> str:
  flag = '--data_dir='
  given = [f.removeprefix(flag) for f in record.flags if f.startswith(flag)]
  return FLAGS.data_dir or (given or ['data'])[-1]


def _train(record: RunRecord, output: str) -> int:
  command = [
    sys.executable, '-m', 'launch.train', *harmless(record.flags), *FLAGS.flag,
    # Of a flag that is given twice the last counts.
    f'--data_dir={_data_dir(record)}', f'--seed={record.seed}',
    f'--output={output}',
  ]  # fmt: skip
  given = environment.with_only(record.environment)
  return subprocess.run(command, env=given, check=False).returncode


if __name__ == '__main__':
  cli.run(main, define=define_flags, path_to='the record of a run')
