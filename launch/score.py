"""Scores a folder of logs: time to quality of every run, and their mean.

python -m launch.score results/first

Audits the logs, prints a table of the runs and the score, and writes
DIR/score.json. Nothing but the logs counts. For a folder of such folders, such
as a published round, it prints a table with a line each and writes nothing but
the file that --table names. Exit code: 0 a result, 1 no score, or one that is
no result, 2 no such folder or flag.
"""

from collections.abc import Sequence
import dataclasses
import os

from absl import flags as absl_flags

from launch.support import cli, score_text
from suite import benchmark as benchmark_lib
from suite import files
from suite.results import records, scoring
from suite.results.audit.claim import Lookup
from suite.results.records import Score
from suite.results.report import export

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """Defines the flags of this program."""
  absl_flags.DEFINE_string(
    'ruleset',
    '',
    'The rules that logs of others are held to, and whose convergence points '
    'normalise them, such as 4.0.0. Logs of Podium name theirs.',
  )
  absl_flags.DEFINE_string(
    'table', '', 'CSV to write, where PATH holds several folders of logs.'
  )
  absl_flags.DEFINE_integer(
    'weak_total',
    None,
    'Weak scaling: accelerators of the whole system, on which the runs trained '
    'a model each, side by side. Writes DIR/throughput.json.',
    lower_bound=1,
  )
  absl_flags.DEFINE_integer(
    'weak_each', None, 'Weak scaling: accelerators of each model.',
    lower_bound=1,
  )  # fmt: skip


def main(path: str) -> int:
  """Scores what lies at `path`; see the module."""
  weak = (FLAGS.weak_total, FLAGS.weak_each)
  if (weak[0] is None) != (weak[1] is None):
    raise ValueError('--weak_total and --weak_each are needed together.')
  below = [] if scoring.logs_in(path) else scoring.folders(path)
  if FLAGS.table and not below:
    raise ValueError('--table is for a folder that holds folders of logs.')
  if weak[0] is not None:
    return run_weak(path, *weak)
  if below:
    return run_all(path, below, FLAGS.table, ruleset=FLAGS.ruleset)
  return run(path, ruleset=FLAGS.ruleset)


def run(
  directory: str,
  *,
  command: Sequence[str] = (),
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> int:
  """Prints and writes the score of a folder; returns the exit code.

  `command` is how the result was asked for, by default through this module.
  Raises ValueError if `directory` is no folder with logs in it.
  """
  score = scoring.score(directory, command=command, get=get, ruleset=ruleset)
  for line in score_text.lines(score):
    print(line)
  records.write_score(directory, score)
  return 0 if score.reason is None else 1


def run_all(
  root: str,
  folders: Sequence[str],
  table: str = '',
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> int:
  """Prints a line for each folder, and writes them as a CSV if asked."""
  rows = []
  code, width = 0, max(len(os.path.relpath(f, root)) for f in folders)
  for folder in folders:
    score = scoring.score(folder, get=get, ruleset=ruleset)
    name = os.path.relpath(folder, root)
    print(f'{name.ljust(width)}  {score_text.brief(score)}', flush=True)
    rows.append(_row(name, score))
    code = 1 if score.reason else code
  if table:
    files.write_text(table, export.table(rows))
  return code


def run_weak(
  directory: str, total: int, each: int, *, get: Lookup = benchmark_lib.get
) -> int:
  """Prints and writes the throughput of a folder of models trained at once."""
  found = scoring.side_by_side(directory, total, each, get=get)
  for line in score_text.throughput(found):
    print(line)
  content = dataclasses.asdict(found) | {'per_minute': found.per_minute}
  files.write_json(os.path.join(directory, 'throughput.json'), content)
  return 0 if found.reason is None else 1


def _row(name: str, score: Score) -> dict[str, object]:
  seconds, spread = score.score_seconds, score.coefficient_of_variation
  return {
    'folder': name,
    'benchmark': score.benchmark,
    'runs': score.runs,
    'converged': score.met,
    'minutes': None if seconds is None else f'{seconds / 60:.3f}',
    'cv_percent': None if spread is None else f'{100 * spread:.2f}',
    'reason': score.reason,
  }


if __name__ == '__main__':
  cli.run(main, define=define_flags, path_to='a folder of logs')
