r"""Prepares a data set, or checks one that is there.

python -m launch.prepare_data --list
python -m launch.prepare_data --dataset=digits --data_dir=data

Exit code: 0 it is there and whole, 1 it is not there and cannot be built here,
2 refused, or not what it should be.
"""

from collections.abc import Callable
import dataclasses
import importlib
import os
import pkgutil
from types import ModuleType

from absl import flags as absl_flags

from input_pipelines import dataset, imagenet, tiny
from launch import flags
from suite import hparams

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this command."""
  absl_flags.DEFINE_string('dataset', None, 'The data set to prepare.')
  absl_flags.DEFINE_string(
    'data_dir', 'data', 'The directory that holds the data sets.'
  )
  absl_flags.DEFINE_bool('list', False, 'List the data sets and end.')


@dataclasses.dataclass(frozen=True)
class Known:
  """A data set that this command can build, or tell how to."""

  summary: str
  verify: Callable[[str], None]
  build: Callable[[str], str] | None = None
  how_to: str = ''


def main() -> int:
  """Runs the command; returns the exit code."""
  datasets = known()
  if FLAGS.list:
    for name, entry in datasets.items():
      print(f'{name:14} {entry.summary}')
    return 0
  name = FLAGS.dataset
  if name not in datasets:
    return flags.refuse(_unknown(name, list(datasets)))
  try:
    return _prepare(name, datasets[name], os.path.expanduser(FLAGS.data_dir))
  except ImportError as error:
    return flags.refuse(f'{name}: {error}')


def known() -> dict[str, Known]:
  """The data sets by name: the full ones, and every module in `tiny`."""
  found = {
    imagenet.NAME: Known(
      summary=_summary(imagenet),
      verify=imagenet.verify,
      how_to=imagenet.HOW_TO_PREPARE,
    )
  }
  for module in pkgutil.iter_modules(tiny.__path__):
    built = importlib.import_module(f'{tiny.__name__}.{module.name}')
    found[built.NAME] = Known(
      summary=_summary(built), verify=built.verify, build=built.build
    )
  return dict(sorted(found.items()))


def _prepare(name: str, entry: Known, data_dir: str) -> int:
  try:
    directory = dataset.find(data_dir, name)
  except FileNotFoundError:
    if entry.build is None:
      print(f'{name} is not in {data_dir}.')
      print(entry.how_to.format(data_dir=data_dir))
      return 1
    print(f'{name}: building it in {data_dir} ...', flush=True)
    directory = entry.build(data_dir)
    done = 'built and verified'
  else:
    done = 'already there, verified'
  entry.verify(directory)
  print(f'{name}: {done}: {directory}')
  print(f'{name}: fingerprint {dataset.fingerprint(directory)}')
  return 0


def _unknown(name: str | None, names: list[str]) -> str:
  if name is None:
    return f'Expected --dataset, one of {", ".join(names)}, or --list.'
  near = hparams.nearest(name, names)
  return f'Unknown data set {name!r}{near}; there are {", ".join(names)}.'


def _summary(module: ModuleType) -> str:
  return (module.__doc__ or '').partition('\n')[0]


if __name__ == '__main__':
  flags.run(main, define=define_flags)
