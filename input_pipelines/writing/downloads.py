"""Files that people download: their checksums, and facts for a manifest."""

from collections.abc import Mapping, Sequence
import hashlib
import os

from input_pipelines.writing import recipe

_PIECE = 1 << 22  # bytes that are read at once


def facts(paths: Sequence[str]) -> dict[str, dict[str, int]]:
  """Size in bytes and time of the last change, in ns, by a file's name."""
  stats = {os.path.basename(path): os.stat(path) for path in paths}
  return {
    name: {'bytes': stat.st_size, 'modified': stat.st_mtime_ns}
    for name, stat in stats.items()
  }


def check_md5(
  order: recipe.Order, paths: Sequence[str], expected: Mapping[str, str]
) -> None:
  """Raises ValueError unless files have their checksums, if that is asked.

  Args:
    order: says whether it is asked, and is told of the progress.
    paths: of the files.
    expected: a file's name -> its MD5 in hex, of those that are known.
  """
  known = [path for path in paths if os.path.basename(path) in expected]
  if not order.check_downloads or not known:
    return
  tell = order.stage('Checking the downloads', 'bytes')
  size, done = sum(os.path.getsize(path) for path in known), 0
  for path in known:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, 'rb') as file:
      while piece := file.read(_PIECE):
        digest.update(piece)
        done += len(piece)
        if tell:
          tell(done, size)
    require_md5(path, expected[os.path.basename(path)], digest.hexdigest())


def require_md5(path: str, expected: str, got: str) -> None:
  """Raises ValueError unless the checksum is the one that is expected."""
  if got != expected:
    raise ValueError(
      f'Expected the MD5 {expected} of {path}, got {got}: it is damaged or '
      'something else; download it again.'
    )
