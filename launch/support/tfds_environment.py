"""An environment of its own in which TFDS builds data sets with its builders.

They need TensorFlow, and some Apache Beam, which training does not and whose
versions do not agree with training's. What is installed is the extra `prepare`
of this project, in the versions of constraints-prepare.txt.
"""

from collections.abc import Sequence
from importlib import metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

from suite import files
from suite.files import ROOT

PROJECT = 'podium-bench'
EXTRA = 'prepare'

_CONSTRAINTS = ROOT / 'constraints-prepare.txt'
_DONE = 'podium-installed.json'
_TFDS = 'tensorflow_datasets.scripts.cli.main'


def requirements() -> list[str]:
  """Requirements of the project's extra `prepare`."""
  declared = ROOT / 'pyproject.toml'
  if declared.exists():  # in a checkout, installed or not
    project = tomllib.loads(declared.read_text(encoding='utf-8'))['project']
    found = project.get('optional-dependencies', {}).get(EXTRA, [])
  else:
    found = _of_installed()
  if not found:
    raise ValueError(f'Expected an extra {EXTRA!r} of {PROJECT}, found none.')
  return found


def make(directory: str) -> str:
  """Makes the environment, unless it is there; returns its Python's path."""
  wanted = requirements()
  python = os.path.join(directory, 'bin', 'python')
  done = os.path.join(directory, _DONE)
  if os.path.exists(done) and files.read_json(done) == wanted:
    return python
  print(f'Making an environment in {directory} ...', flush=True)
  _run([sys.executable, '-m', 'venv', '--clear', directory])
  print(f'Installing {", ".join(wanted)} (minutes, about 2 GB) ...', flush=True)
  constraints = (
    ['--constraint', str(_CONSTRAINTS)] if _CONSTRAINTS.exists() else []
  )
  pip = [python, '-m', 'pip', '--disable-pip-version-check', 'install']
  _run([*pip, '--progress-bar=on', '--quiet', *constraints, *wanted])
  files.write_json(done, wanted)
  return python


def build(python: str, name: str, *, data_dir: str, downloads: str) -> str:
  """Builds a data set with TFDS's builder and moves it into place.

  It starts from scratch each time, except for finished downloads.

  Args:
    python: the interpreter of the environment.
    name: the data set, `name` or `name/config`, as TFDS knows it.
    data_dir: the directory of data sets.
    downloads: where the files lie that were fetched by hand.

  Returns:
    The data set's own directory.
  """
  scratch = os.path.join(data_dir, f'.{name.replace("/", "-")}.incomplete')
  shutil.rmtree(scratch, ignore_errors=True)
  command = [
    *(python, '-m', _TFDS, 'build', name),
    '--file_format=array_record',
    f'--data_dir={scratch}',
    f'--download_dir={os.path.join(data_dir, "downloads")}',
    f'--manual_dir={downloads}',
  ]
  # TFDS's own progress is shown as it is.
  _run(command, TF_CPP_MIN_LOG_LEVEL='2')
  root = pathlib.Path(scratch, name)
  found = sorted(path.parent for path in root.glob('*/dataset_info.json'))
  if len(found) != 1:
    raise ValueError(f'Expected one version under {root}, got {len(found)}.')
  (built,) = found
  place = os.path.join(data_dir, name, built.name)
  if os.path.exists(place):
    raise FileExistsError(f'Expected nothing at {place}; {built} goes there.')
  os.makedirs(os.path.dirname(place), exist_ok=True)
  os.rename(built, place)
  shutil.rmtree(scratch)
  return place


def _of_installed() -> list[str]:
  """The extra's requirements, from the metadata of the installed package."""
  split = [text.partition(';') for text in metadata.requires(PROJECT) or []]
  return [
    requirement.strip()
    for requirement, _, marker in split
    if f'"{EXTRA}"' in marker.replace("'", '"')
  ]


def _run(command: Sequence[str], **variables: str) -> None:
  done = subprocess.run(
    command,
    env={**os.environ, **variables},
    stdin=subprocess.DEVNULL,
    check=False,
  )
  if done.returncode:
    raise OSError(
      f'Expected exit code 0, got {done.returncode}: {" ".join(command)}'
    )
