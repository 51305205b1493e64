"""Files that are there whole or not at all."""

import json
import os
from typing import Any


def write_json(path: str, value: Any) -> None:
  """Writes a file of JSON beside its place, and then moves it there."""
  partial = f'{path}.partial'
  with open(partial, 'w', encoding='utf-8') as file:
    json.dump(value, file, indent=1)
    file.write('\n')
  place(partial, path)


def place(partial: str, path: str) -> None:
  """Moves a file that was written to its place, once the disk has it."""
  file = os.open(partial, os.O_RDONLY)
  try:
    os.fsync(file)
  finally:
    os.close(file)
  os.replace(partial, path)
