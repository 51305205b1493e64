"""Cache on disk of facts about compiled programs.

It is found by what was compiled: the program as it was lowered, for what, with
which options, by which versions. The optimised program is kept as text, so that
reports are made each time; nothing that is kept is ever executed.
"""

import base64
from collections.abc import Mapping
import gzip
import hashlib
import json
import os
from typing import Any
import zlib

from suite import files


def key(*parts: Any) -> str:
  """A name for what the parts, JSON values, describe together."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def digest(text: str) -> str:
  """A short stand-in for a long text."""
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
      with open(self._path(name), encoding='utf-8') as file:
        kept = json.load(file)
      text = gzip.decompress(base64.b64decode(kept['text'])).decode()
      # A broken entry is made again and replaced.
      whole = kept['name'] == name and digest(text) == kept['digest']
      return {**kept['facts'], 'text': text} if whole else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
      return None

  def keep(self, name: str, facts: Mapping[str, Any]) -> None:
    """Keeps facts, of which 'text' is long, whole or not at all."""
    if not self._directory:
      return
    text = facts['text']
    packed = gzip.compress(text.encode(), mtime=0)
    os.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
    files.write_json(
      self._path(name),
      {
        'name': name,
        'facts': {k: v for k, v in facts.items() if k != 'text'},
        'digest': digest(text),
        'text': base64.b64encode(packed).decode(),
      },
    )

  def _path(self, name: str) -> str:
    return os.path.join(self._directory, name[:2], f'{name}.json')
