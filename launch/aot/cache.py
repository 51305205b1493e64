"""Cache on disk of facts about compiled programs.

It is found by what was compiled: the program as it was lowered, for what, with
which options, by which versions. The optimised program is kept as text, so that
reports are made each time; nothing that is kept is ever executed.
"""

from collections.abc import Mapping
import gzip
import hashlib
import json
import pathlib
from typing import Any
import zlib

from suite import files


def key(*parts: Any) -> str:
  """A name for what the parts, JSON values, describe together."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


class Cache:
  """A directory of what is kept; with an empty path nothing is."""

  def __init__(self, directory: str):
    self._directory = directory

  def find(self, name: str) -> Mapping[str, Any] | None:
    """Entry of that name; None if there is none that can be read."""
    if not self._directory:
      return None
    try:
      # A broken entry, which gzip notices, is made again and replaced.
      kept = json.loads(gzip.decompress(self._path(name).read_bytes()))
      return kept['facts'] if kept['name'] == name else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
      return None

  def keep(self, name: str, facts: Mapping[str, Any]) -> None:
    """Keeps facts, JSON values, whole or not at all."""
    if not self._directory:
      return
    path = self._path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({'name': name, 'facts': facts})
    files.write_bytes(path, gzip.compress(text.encode(), mtime=0))

  def _path(self, name: str) -> pathlib.Path:
    return pathlib.Path(self._directory, name[:2], f'{name}.gz')
