"""The source of this project, copied as it ran."""

import io
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

from suite.files import PACKAGES, ROOT

_COMMIT = re.compile(r'[0-9a-f]{40}')


def git(*words: str) -> bytes:
  """Output of git; empty without git or a checkout."""
  try:
    return subprocess.run(
      ('git', '-C', str(ROOT), *words), check=True, capture_output=True
    ).stdout
  except (OSError, subprocess.CalledProcessError):
    return b''


def copy(to: str, commit: str) -> str:
  """Copies the source to a folder; says in a sentence which source it is.

  `commit` is what a run recorded. Without a checkout that has it, the files as
  they lie here are taken. Hidden files, which are no source, stay behind.
  """
  target = pathlib.Path(to)
  if _COMMIT.fullmatch(commit) and (archive := git('archive', commit)):
    _unpack(archive, target)
    return f'the source at commit {commit}, which ran.'
  if tracked := git('ls-files', '-z'):
    names = [os.fsdecode(name) for name in tracked.split(b'\0') if name]
    _copy(names, target)
    why = 'had changes that were in no commit'
    if not commit.endswith('+changes'):
      why = 'is not in this checkout'
    return (
      'the source as it was when this was packaged. What ran was commit '
      f'{commit}, which {why}: the two may differ.'
    )
  _copy(_installed(), target)
  return 'the packages as they were installed when this was packaged.'


def _unpack(archive: bytes, target: pathlib.Path) -> None:
  with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
    for member in tar:
      if member.isfile() and not _hidden(member.name):
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar.extractfile(member).read())


def _copy(names: list[str], target: pathlib.Path) -> None:
  for name in names:
    path = ROOT / name
    if path.is_file() and not path.is_symlink() and not _hidden(name):
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, target / name)


def _installed() -> list[str]:
  return [
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob('*'))
    if path.suffix not in ('.pyc', '.so') and '__pycache__' not in path.parts
  ]


def _hidden(name: str) -> bool:
  return any(part.startswith('.') for part in name.split('/'))
