r"""Writes the report of one set of runs, or of several side by side, as HTML.

python -m launch.report --output=results/first
python -m launch.report --output=results/compared --set=results/first \
  --set=results/second

Of one set it reads run_<i>.json and score.json in OUTPUT. With --set, given
once for each folder, it puts several beside each other: systems by their times,
and sets of the same system as its history. It writes OUTPUT/report.html, and
into OUTPUT/report/ every figure as SVG and every number as CSV and JSON, and
prints the path of the page. Exit code: 0 written, 2 nothing to report on.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
import re
from typing import Any

from absl import flags as absl_flags

from launch.support import cli
from suite import files
from suite.results.report import compare, export, page

FLAGS = absl_flags.FLAGS

_FORMAT = 1  # of run_<i>.json
_RESULT_FIELDS = (
  *('benchmark', 'size', 'ruleset', 'division', 'run', 'seed', 'status'),
  *('target', 'time_to_quality', 'startup', 'timed', 'evals', 'steps'),
  *('samples', 'samples_per_second', 'hyperparameters', 'system', 'versions'),
  *('data', 'command', 'started'),
)
_SCORE_FIELDS = (
  *('required_runs', 'score_seconds', 'values', 'coefficient_of_variation'),
  *('confidence', 'findings'),
)


def define_flags() -> None:
  """Flags of this program."""
  absl_flags.DEFINE_string(
    'output',
    '',
    'Directory that report.html goes to. Without --set it holds run_<i>.json '
    'and score.json.',
  )
  absl_flags.DEFINE_multi_string(
    'set',
    [],
    'Directory of a set of runs to compare, or name=directory; once for each.',
  )


def main() -> int:
  """Writes the report; see the module."""
  if not FLAGS.output:
    raise ValueError('--output=DIR is needed: where the report goes.')
  print(write_several(FLAGS.output, FLAGS.set) if FLAGS.set else
        write(FLAGS.output))  # fmt: skip
  return 0


def write(directory: str | os.PathLike) -> str:
  """Writes the report of a directory of results there; the path of its page.

  Raises ValueError or OSError, in one line, if it cannot be made or written.
  """
  return _write(directory, page.build(*read(directory)))


def write_several(directory: str | os.PathLike, sets: Sequence[str]) -> str:
  """Writes the report of several sets, as --set names them, into a directory.

  Raises ValueError or OSError, in one line, if it cannot be made or written.
  """
  named = _named(sets)
  found = [compare.Set(name, *read(folder)) for name, folder in named.items()]
  if (pathlib.Path(directory) / 'score.json').exists():
    raise ValueError(
      f'Expected a directory of its own for the comparison; {directory} holds '
      'a set of runs, with a report of that.'
    )
  files.claim_directory(os.fspath(directory))
  return _write(directory, compare.build(found))


def read(
  directory: str | os.PathLike,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
  """The results in a directory, in the order of the runs, and their score."""
  folder = pathlib.Path(directory)
  if not folder.is_dir():
    raise ValueError(f'Expected a directory of runs; {folder} is none.')
  results = [_result(path) for path in _run_files(folder)]
  if not results:
    raise ValueError(
      f'Expected run_<i>.json in {folder}, got none; launch.benchmark makes '
      'them.'
    )
  _require_one_benchmark(results, folder)
  path = folder / 'score.json'
  if not path.exists():
    raise ValueError(
      f'Expected score.json in {folder}, got none; launch.score makes it.'
    )
  score = _read_object(path)
  _require(score, _SCORE_FIELDS, path)
  return results, score


def _write(directory: str | os.PathLike, report: page.Report) -> str:
  export.write(os.path.join(directory, 'report'), report.figures, report.tables)
  path = os.path.join(directory, 'report.html')
  files.write_text(path, report.html)
  return path


def _named(sets: Sequence[str]) -> dict[str, str]:
  """The folders by the names to show; a name of several is told apart."""
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


def _run_files(folder: pathlib.Path) -> list[pathlib.Path]:
  found = {}
  for path in folder.iterdir():
    match = re.fullmatch(r'run_(\d+)\.json', path.name)
    if match:
      found[int(match[1])] = path
  return [found[run] for run in sorted(found)]


def _result(path: pathlib.Path) -> dict[str, Any]:
  result = _read_object(path)
  if result.get('format') != _FORMAT:
    raise ValueError(
      f'Expected format {_FORMAT} in {path}, got {result.get("format")!r}.'
    )
  _require(result, _RESULT_FIELDS, path)
  return result


def _read_object(path: pathlib.Path) -> dict[str, Any]:
  content = files.read_json(str(path))
  if not isinstance(content, dict):
    kind = type(content).__name__
    raise ValueError(f'Expected an object in {path}, got a {kind}.')
  return content


def _require(
  content: Mapping[str, Any], fields: Sequence[str], path: pathlib.Path
) -> None:
  missing = [field for field in fields if field not in content]
  if missing:
    raise ValueError(f'{path} lacks {", ".join(missing)}.')


def _require_one_benchmark(
  results: Sequence[Mapping[str, Any]], folder: pathlib.Path
) -> None:
  for field in ('benchmark', 'size', 'division'):
    found = sorted({str(result[field]) for result in results})
    if len(found) > 1:
      raise ValueError(
        f'Expected runs of one {field} in {folder}, got {", ".join(found)}.'
      )


if __name__ == '__main__':
  cli.run(main, define=define_flags)
