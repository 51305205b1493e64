"""The files of a submission as they lie on disk: names, kinds, sizes, links.

Somebody else made the tree. It is listed without following a link, opening a
file or going deeper or longer than the limits below.
"""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
import pathlib
import re
import stat

from suite.results.audit.findings import ERROR, WARNING, Finding, show

MAX_FILE = 50 << 20  # bytes; what repositories of results take

_MAX_DEPTH = 32
_MAX_ENTRIES = 200_000
_MAX_TOLD = 20  # findings of one rule
_MAX_HOPS = 40  # links on the way to one file
_SKIPPED = ('.git',)  # at the root alone: a checkout is no part of it
# What git and shells stumble over; what can't be printed comes on top.
_BAD = re.compile(r'[\s\\]')
_KINDS = (
  (stat.S_ISFIFO, 'a pipe'),
  (stat.S_ISSOCK, 'a socket'),
  (stat.S_ISCHR, 'a device'),
  (stat.S_ISBLK, 'a device'),
)


@dataclasses.dataclass(frozen=True)
class Tree:
  """Contents of a tree; paths are relative to its root, with '/' between."""

  root: pathlib.Path
  folders: frozenset[str]  # '' is the root
  files: frozenset[str]  # regular ones alone
  links: frozenset[str]
  findings: Sequence[Finding]

  def children(self, folder: str) -> Iterator[str]:
    """The paths of what lies in a folder, sorted; links included."""
    yield from self._by_folder.get(folder, ())

  def subfolders(self, folder: str) -> list[str]:
    """The paths of the folders in a folder, sorted."""
    return [path for path in self.children(folder) if path in self.folders]

  @functools.cached_property
  def _by_folder(self) -> dict[str, list[str]]:
    inside = collections.defaultdict(list)
    for path in sorted((self.folders | self.files | self.links) - {''}):
      inside[path.rpartition('/')[0]].append(path)
    return inside


def scan(root: str | os.PathLike) -> Tree:
  """Lists a tree, and finds entries that can't be trusted."""
  walk = _Walk(pathlib.Path(root))
  walk.run()
  return Tree(
    walk.root,
    frozenset(walk.folders),
    frozenset(walk.files),
    frozenset(walk.links),
    walk.findings,
  )


def is_plain(path: str | os.PathLike) -> bool:
  """Returns whether there is a regular file, or a folder, and no link."""
  try:
    mode = os.lstat(path).st_mode
  except (OSError, ValueError):
    return False
  return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


class _Walk:
  """One listing, in the order of names."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.folders: set[str] = set()
    self.files: set[str] = set()
    self.links: set[str] = set()
    self.findings: list[Finding] = []
    self._told: collections.Counter[str] = collections.Counter()
    self._entries = 0

  def run(self) -> None:
    waiting = ['']
    while waiting and self._entries <= _MAX_ENTRIES:
      folder = waiting.pop()
      self.folders.add(folder)
      inside = [path for path in self._list(folder) if self._is_folder(path)]
      if inside and folder.count('/') + 2 > _MAX_DEPTH:
        text = f'expected folders at most {_MAX_DEPTH} deep, got a deeper one'
        self._error(inside[0], text, 'depth')
      else:
        waiting += reversed(inside)
    if self._entries > _MAX_ENTRIES:
      text = f'expected at most {_MAX_ENTRIES} files, got more; they were not'
      self._error('', f'{text} looked at', 'number of files')

  def _list(self, folder: str) -> list[str]:
    try:
      with os.scandir(self.root / folder) as entries:
        names = sorted(self._names(entries))
    except OSError as error:
      self._error(folder, f'cannot be read: {error.strerror}', 'readable')
      return []
    if not folder:
      names = [name for name in names if name not in _SKIPPED]
    self._check_names(folder, names)
    return [f'{folder}/{name}' if folder else name for name in names]

  def _names(self, entries) -> Iterator[str]:
    for entry in entries:
      self._entries += 1
      if self._entries > _MAX_ENTRIES:
        return
      yield entry.name

  def _check_names(self, folder: str, names: list[str]) -> None:
    folded: dict[str, str] = {}
    for name in names:
      path = f'{folder}/{name}' if folder else name
      if _BAD.search(name) or name.startswith('.') or not name.isprintable():
        text = 'expected a name without spaces, control or special characters'
        self._error(path, f'{text} or a leading dot, got {show(name)}', 'names')
      other = folded.setdefault(name.casefold(), name)
      if other != name:
        text = f'expected names that differ by more than case, got {show(name)}'
        self._tell(WARNING, path, f'{text} and {show(other)}', 'names')

  def _is_folder(self, path: str) -> bool:
    try:
      found = os.lstat(self.root / path)
    except OSError as error:
      self._error(path, f'cannot be read: {error.strerror}', 'readable')
      return False
    if stat.S_ISDIR(found.st_mode):
      return True
    if stat.S_ISLNK(found.st_mode):
      self.links.add(path)
      if fault := self._link_fault(path):
        self._error(path, fault, 'links')
    elif stat.S_ISREG(found.st_mode):
      self.files.add(path)
      if found.st_size > MAX_FILE:
        text = f'expected files of at most {MAX_FILE >> 20} MiB, got'
        self._error(path, f'{text} {found.st_size >> 20} MiB', 'file size')
    else:
      kind = next((k for of, k in _KINDS if of(found.st_mode)), 'neither')
      self._error(path, f'expected a file or a folder, got {kind}', 'files')
    return False

  def _link_fault(self, path: str) -> str | None:
    """Fault of a link; it is resolved by name, never out of the tree."""
    parts, done = path.split('/')[::-1], []
    hops = 0
    while parts:
      part = parts.pop()
      if part == '..' and not done:
        return 'expected a link within the submission, got one out of it'
      if part in ('', '.', '..'):
        del done[len(done) - (part == '..') :]
        continue
      try:
        mode = os.lstat(self.root.joinpath(*done, part)).st_mode
        target = None
        if stat.S_ISLNK(mode):
          target = os.readlink(self.root.joinpath(*done, part))
      except OSError:
        return 'expected a link to something, got one to nothing'
      if target is None:
        done.append(part)
        continue
      hops += 1
      if target.startswith('/'):
        return 'expected a relative link, got one from the root of the disk'
      if hops > _MAX_HOPS:
        return 'expected a link to a file, got one that leads to itself'
      parts += target.split('/')[::-1]
    return None

  def _error(self, path: str, text: str, rule: str) -> None:
    self._tell(ERROR, path, text, rule)

  def _tell(self, severity: str, path: str, text: str, rule: str) -> None:
    self._told[rule] += 1
    path = path or self.root.resolve().name
    if self._told[rule] <= _MAX_TOLD:
      self.findings.append(Finding(severity, path, None, text, rule))
    elif self._told[rule] == _MAX_TOLD + 1:
      text = 'there are more such files, not listed here'
      self.findings.append(Finding(severity, path, None, text, rule))
