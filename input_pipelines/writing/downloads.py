"""Files that people download: their checksums, and facts for a manifest."""

from collections.abc import Mapping, Sequence
import os

from input_pipelines.writing import files, recipe, work


def below(directory: str) -> dict[str, str]:
  """Name -> path of all files; of those of one name, the first."""
  found: dict[str, str] = {}
  for folder, folders, names in os.walk(os.path.expanduser(directory)):
    folders.sort()
    for name in names:
      found.setdefault(name, os.path.join(folder, name))
  return found


def one(directory: str, name: str) -> str:
  """Path of the file of this name; FileNotFoundError where there is none."""
  there = below(directory)
  if name not in there:
    raise FileNotFoundError(f'Expected {name} below {directory}, found none.')
  return there[name]


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

  def check(path: str, tick: work.Tick) -> None:
    got = files.digest(path, 'md5', tick)
    require_md5(path, expected[os.path.basename(path)], got)

  work.each(
    check,
    known,
    whole=sum(os.path.getsize(path) for path in known),
    progress=order.stage('Checking the downloads', 'bytes'),
  )


def require_md5(path: str, expected: str, got: str) -> None:
  """Raises ValueError unless the checksum is the one that is expected."""
  if got != expected:
    raise ValueError(
      f'Expected the MD5 {expected} of {path}, got {got}: it is damaged or '
      'something else; download it again.'
    )
