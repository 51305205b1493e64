r"""Measures how fast this machine runs a benchmark; no data set is needed.

python -m launch.speed --benchmark=resnet --size=reference --per_chip_batch=128
python -m launch.speed --all --size=tiny --json=speed.json
python -m launch.speed --all --size=tiny --against=speed.json

Builds the programs of a run, by the same flags, and times train steps, evals
and what else a run computes, on batches drawn from the ranges of its data. A
speed is no result: nothing is trained until a target. Exit code: 0 measured,
1 a point failed or is slower than in --against, 2 refused.
"""

from collections.abc import Sequence
import os
import sys

from absl import flags as absl_flags

from launch.speeds import asked
from launch.support import cli, listing, run_flags
from suite import files, names
from suite.results import speed
from suite.results.report import format as fmt
from suite.results.report import speed as report
from suite.results.speed import Point

FLAGS = absl_flags.FLAGS
# Those of launch.speeds, which import JAX; a test holds them together.
INPUTS = ('device', 'host', 'data')
PROGRAMS = ('train_step', 'predict', 'staged')
# The shared flags that it reads.
_READ = (
  'benchmark', 'size', 'division', 'hp', 'data_dir', 'list', 'profile',
  'compiler_option', 'model_axis', 'spread', 'groups_across_hosts',
  'compile_cache', 'platform', 'input_threads', 'input_processes',
  'skip_corrupt_records', 'preflight', 'expect_devices', 'watchdog_seconds',
  'startup_seconds', 'join_seconds',
)  # fmt: skip


def define_flags() -> None:
  """The flags of a run, and those that say what is measured."""
  run_flags.define(only=_READ)
  with cli.group(cli.WHAT, first=('per_chip_batch', 'all', 'sweep', 'devices')):
    absl_flags.DEFINE_integer(
      'per_chip_batch',
      None,
      'Samples of a train step on each chip, in place of the global batch.',
      lower_bound=1,
    )
    absl_flags.DEFINE_bool(
      'all', False, 'Every benchmark that has the size, one after another.'
    )
    absl_flags.DEFINE_string(
      'sweep',
      '',
      'Several values of the batch or of a hyperparameter, as '
      'per_chip_batch=32,64,128 or compute_dtype=float32,bfloat16.',
    )
    absl_flags.DEFINE_list(
      'devices', [], 'Numbers of devices: each with the same batch a chip.'
    )
    absl_flags.DEFINE_list(
      'programs', list(PROGRAMS), f'Of {", ".join(PROGRAMS)}.'
    )
    absl_flags.DEFINE_enum(
      'input',
      'device',
      INPUTS,
      'device: drawn batches that lie on the devices. host: the same, sent '
      'there for each step. data: those of the prepared data set.',
    )
  with cli.group(cli.SPEED, first=('seconds', 'limit')):
    absl_flags.DEFINE_float(
      'seconds',
      30.0,
      'How long the programs of a benchmark are measured, at most; it ends '
      'earlier when all medians are precise.',
      lower_bound=0.1,
    )
    absl_flags.DEFINE_float(
      'limit',
      600.0,
      'Seconds for each of several points, compilation included.',
      lower_bound=1.0,
    )
  with cli.group(cli.RESULT, first=('json', 'page', 'against', 'trace')):
    absl_flags.DEFINE_string('json', '', 'A file for all numbers.')
    absl_flags.DEFINE_string('page', '', 'An HTML file for the tables.')
    absl_flags.DEFINE_multi_string(
      'against',
      [],
      'A --json file of before, to compare with; given again, the page shows '
      'the history of all, the last one being the newest.',
    )
    absl_flags.DEFINE_string(
      'trace', '', 'A folder for a profile of a few train steps.'
    )
  absl_flags.DEFINE_string('label', '', 'A word that tells points apart.')


def main() -> int:
  """Measures what the flags ask for, prints and writes it."""
  if FLAGS.list:
    print(listing.benchmarks(FLAGS.data_dir))
    return 0
  for program in FLAGS.programs:
    names.require('program', program, PROGRAMS)
  before = [speed.read(path) for path in FLAGS.against]
  for path in filter(None, (FLAGS.json, FLAGS.page)):
    files.claim_directory(os.path.dirname(os.path.abspath(path)))
  spots = asked.spots()
  if spots is not None:
    return _told(asked.measured(spots, _keep), before)
  request = run_flags.request()
  # Here, so that whoever only asks does not wait for JAX.
  from launch.speeds import one

  try:
    point = one.measure(request)
  except one.OutOfMemory as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return _told([point], before) if one.is_primary() else 0


def _told(points: Sequence[Point], before: Sequence[Sequence[Point]]) -> int:
  """Prints and writes the points; the exit code."""
  print('\n'.join(report.lines(points)))
  changes = speed.compare(points, before[-1]) if before else []
  if changes:
    print('\n'.join(['', *fmt.columns(report.changed(changes))]))
  _keep(points)
  if FLAGS.page:
    html = report.page(points, before, changes, _command())
    files.write_text(FLAGS.page, html)
  failed = any(point['failed'] for point in points)
  worse = [change for change in changes if change.is_worse]
  if worse:
    slower = ', '.join(change.name for change in worse)
    print(f'SLOWER: {slower}')
  return 1 if failed or worse else 0


def _keep(points: Sequence[Point]) -> None:
  if FLAGS.json:
    speed.write(FLAGS.json, points, _command())


def _command() -> list[str]:
  return ['python', '-m', 'launch.speed', *sys.argv[1:]]


if __name__ == '__main__':
  cli.run(main, define=define_flags)
