"""Files of a result: names, whole writes, checked JSON."""

import json
import os
import pathlib
import re
import tempfile
from typing import Any

# The folder that holds our packages, and these.
ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ('input_pipelines', 'launch', 'models', 'suite')
_LOG = re.compile(r'result_(.*)\.txt', re.DOTALL)
_NUMBER = re.compile(r'[0-9]{1,6}')


def log_path(directory: str, run: int) -> str:
  """Path of the log of a run, by the name that checkers look for."""
  return os.path.join(directory, f'result_{run}.txt')


def is_log(name: str) -> bool:
  """Returns whether checkers take a file of this name for the log of a run."""
  return _LOG.fullmatch(name) is not None


def logs(directory: str | os.PathLike) -> tuple[dict[int, pathlib.Path], bool]:
  """The logs in a folder by number, and whether their names hold it.

  Where names hold other things than numbers, or two the same one, logs are
  numbered from 0 in the order of their names.
  """
  paths = [p for p in pathlib.Path(directory).iterdir() if is_log(p.name)]
  texts = {path: _LOG.fullmatch(path.name)[1] for path in paths}
  named = all(map(_NUMBER.fullmatch, texts.values()))
  numbers = [int(text) for text in texts.values()] if named else []
  if named and len(set(numbers)) == len(numbers):
    return dict(sorted(zip(numbers, paths, strict=True))), True
  return dict(enumerate(sorted(paths))), False


def record_path(directory: str, run: int) -> str:
  """Path of the record of a finished run, for the report."""
  return os.path.join(directory, f'run_{run}.json')


def checkpoints_path(directory: str, run: int) -> str:
  """Path of the checkpoints of a run while it is not finished."""
  return os.path.join(directory, f'checkpoints_{run}')


def claim_directory(path: str) -> None:
  """Makes the directory unless it exists; ValueError where we can't write."""
  try:
    os.makedirs(path, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise ValueError(
      f'Cannot write to directory {path}: {error.strerror}.'
    ) from None


def write_text(path: str, text: str) -> None:
  """Moves the whole file into place, so that no reader sees half of it."""
  partial = f'{path}.partial'
  with open(partial, 'w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def write_json(path: str, value: Any) -> None:
  """Writes `value` as JSON; ValueError for numbers that JSON lacks."""
  write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


def read_json(path: str) -> Any:
  """Reads a JSON file; ValueError naming it if it is missing or broken."""
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except (OSError, ValueError) as error:
    raise ValueError(f'Cannot read {path}: {error}') from None


def is_number(value: Any) -> bool:
  """Returns whether a JSON value is a finite number; a bool is none."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return -1e300 < value < 1e300
