r"""Writes the report of one set of runs, or of several side by side, as HTML.

python -m launch.report --output=results/first
python -m launch.report --output=results/compared --set=results/first \
  --set=results/second

Of one set it reads run_<i>.json and score.json in OUTPUT. Where there are none,
as in anybody's published results, it shows what the logs alone hold; those of
rounds v0.5 and v0.6 are read and shown, and not checked. With
--set, given once for each folder, it puts several beside each other: systems by
their times, and sets of the same system as its history. It writes
OUTPUT/report.html, and into OUTPUT/report/ every figure as SVG and every number
as CSV and JSON, and prints the path of the page. Exit code: 0 written, 2
nothing to report on.
"""

from collections.abc import Sequence
import os

from absl import flags as absl_flags

from launch.support import cli
from suite import files
from suite.results import records
from suite.results.records import RunRecord, Score
from suite.results.report import compare, export, from_logs, page

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """Flags of this program."""
  absl_flags.DEFINE_string(
    'output',
    '',
    'Directory that report.html goes to. Without --set it holds run_<i>.json '
    'and score.json, or logs.',
  )
  absl_flags.DEFINE_multi_string(
    'set',
    [],
    'Directory of a set of runs to compare, or name=directory; once for each.',
  )
  absl_flags.DEFINE_string(
    'ruleset',
    '',
    'The official ruleset that logs without records are held to, as 4.0.0; by '
    'default the one that they fit.',
  )


def main() -> int:
  """Writes the report; see the module."""
  if not FLAGS.output:
    raise ValueError('--output=DIR is needed: where the report goes.')
  if FLAGS.set:
    print(write_several(FLAGS.output, FLAGS.set, FLAGS.ruleset))
  else:
    print(write(FLAGS.output, FLAGS.ruleset))
  return 0


def write(directory: str | os.PathLike, ruleset: str = '') -> str:
  """Writes the report of a directory of results there; the path of its page.

  Raises ValueError or OSError, in one line, if it cannot be made or written.
  """
  return _write(directory, page.build(*read(directory, ruleset)))


def write_several(
  directory: str | os.PathLike, sets: Sequence[str], ruleset: str = ''
) -> str:
  """Writes the report of several sets, as --set names them, into a directory.

  Raises ValueError or OSError, in one line, if it cannot be made or written.
  """
  named = _named(sets)
  found = [
    compare.Set(name, *read(folder, ruleset)) for name, folder in named.items()
  ]
  if os.path.exists(os.path.join(directory, records.SCORE)):
    raise ValueError(
      f'Expected a directory of its own for the comparison; {directory} holds '
      'a set of runs, with a report of that.'
    )
  files.claim_directory(os.fspath(directory))
  return _write(directory, compare.build(found))


def read(
  directory: str | os.PathLike, ruleset: str = ''
) -> tuple[list[RunRecord], Score]:
  """The records in a directory, in the order of the runs, and their score.

  Where there are no records, both are made from the logs.
  """
  if _holds_logs_alone(directory):
    return from_logs.read(directory, ruleset=ruleset)
  return records.read_runs(directory), records.read_score(directory)


def _holds_logs_alone(directory: str | os.PathLike) -> bool:
  if not os.path.isdir(directory):
    return False
  names = os.listdir(directory)
  return any(map(files.is_log, names)) and not any(
    name.startswith('run_') and name.endswith('.json') for name in names
  )


def _write(directory: str | os.PathLike, report: page.Report) -> str:
  export.write(os.path.join(directory, 'report'), report.figures, report.tables)
  path = os.path.join(directory, 'report.html')
  files.write_text(path, report.html)
  return path


def _named(sets: Sequence[str]) -> dict[str, str]:
  """The folders by the names to show; ValueError where two are the same."""
  found: dict[str, str] = {}
  for text in sets:
    name, equals, folder = text.partition('=')
    if not equals or os.path.isdir(text):
      folder, name = text, os.path.basename(os.path.abspath(text))
    if not name or not folder:
      raise ValueError(f'Expected --set=DIR or --set=NAME=DIR, got {text!r}.')
    if name in found:
      raise ValueError(
        f'Expected sets of different names, got {name} twice; --set=NAME=DIR '
        'gives one.'
      )
    found[name] = folder
  return found


if __name__ == '__main__':
  cli.run(main, define=define_flags)
