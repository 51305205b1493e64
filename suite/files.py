"""Files of a result: written whole or not at all, in directories we may use."""

import json
import os
import tempfile
from typing import Any


def log_path(directory: str, run: int) -> str:
  """Where the log of a run lies, by the name that checkers look for."""
  return os.path.join(directory, f'result_{run}.txt')


def record_path(directory: str, run: int) -> str:
  """Where all that is known of a finished run lies, for the report."""
  return os.path.join(directory, f'run_{run}.json')


def checkpoints_path(directory: str, run: int) -> str:
  """Where the checkpoints of a run lie while it is not finished."""
  return os.path.join(directory, f'checkpoints_{run}')


def claim_directory(path: str) -> None:
  """Makes the directory if it is not there; ValueError if it can't be used."""
  try:
    os.makedirs(path, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise ValueError(
      f'Cannot write to directory {path}: {error.strerror}.'
    ) from None


def write_text(path: str, text: str) -> None:
  """Puts the file in place in one step, so that no reader sees half of it."""
  partial = f'{path}.partial'
  with open(partial, 'w', encoding='utf-8') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def write_json(path: str, value: Any) -> None:
  """Writes `value` as JSON; ValueError for numbers that JSON has not."""
  write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


def read_json(path: str) -> Any:
  """Reads a JSON file; ValueError naming it if it is missing or broken."""
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except (OSError, ValueError) as error:
    raise ValueError(f'Cannot read {path}: {error}') from None
