r"""Prepares a data set, or checks one that is there.

python -m launch.prepare_data --list
python -m launch.prepare_data --dataset=digits --data_dir=data
python -m launch.prepare_data --dataset=imagenet2012 --data_dir=data \
  --downloads=/archives
python -m launch.prepare_data --dataset=imagenet2012 --data_dir=data \
  --from=gs://bucket/imagenet2012/5.1.0

Exit code: 0 it is there and whole, 1 it is not there and cannot be built here,
2 refused, or not what it should be, 130 stopped by Ctrl-C: the same command
resumes.
"""

from collections.abc import Mapping
import os
from typing import Any

from absl import flags as absl_flags
from etils import epath
import tensorflow_datasets as tfds

from input_pipelines.images import restart_markers
from input_pipelines.reading import arrays, dataset, tfrecord
from input_pipelines.writing import convert, examples, manifest, recipe, verify
from launch.support import cli, stages, tfds_environment
from suite import names

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this command."""
  absl_flags.DEFINE_string('dataset', None, 'The data set to prepare.')
  absl_flags.DEFINE_string(
    'data_dir', 'data', 'The directory that holds the data sets.'
  )
  absl_flags.DEFINE_bool('list', False, 'List the data sets and end.')
  absl_flags.DEFINE_string(
    'downloads',
    None,
    'Where the files lie that have to be downloaded by hand; by default '
    '<data_dir>/downloads/manual.',
  )
  absl_flags.DEFINE_string(
    'from',
    None,
    'A TFDS directory, TFRecord or ArrayRecord, local or gs://, that is '
    'converted into the data directory.',
  )
  absl_flags.DEFINE_bool(
    'restart_markers',
    False,
    'Put restart markers into every JPEG while building or converting: the '
    'same pixels, of which a crop decodes faster. Needs jpegtran.',
  )
  absl_flags.DEFINE_bool(
    'tfds',
    False,
    "Build with TFDS's own builder, in an environment that is made for it.",
  )
  absl_flags.DEFINE_string(
    'tfds_environment',
    None,
    'Where that environment is or goes; by default '
    '<data_dir>/.tfds-environment.',
  )
  absl_flags.DEFINE_enum(
    'verify',
    'sample',
    ['metadata', 'sample', 'full'],
    'metadata: counts, schema, sizes. sample: that, and some records of each '
    'split decode. full: that, every checksum is right, every record decodes.',
  )
  absl_flags.DEFINE_integer(
    'sample', 64, 'Records of each split that are decoded.', lower_bound=1
  )
  absl_flags.DEFINE_bool(
    'manifest', False, 'Write the manifest of a data set that has none.'
  )
  absl_flags.DEFINE_bool(
    'check_downloads', True, 'Check the checksums of what was downloaded.'
  )
  absl_flags.DEFINE_integer(
    'threads', None, 'Threads; by default one a core.', lower_bound=1
  )


def main() -> int:
  """Runs the command; returns the exit code."""
  recipes = recipe.known() | recipe.known('suite.benchmarks', 'start')
  if FLAGS.list:
    return _list(recipes)
  name = FLAGS.dataset
  if name is None:
    raise ValueError(
      f'Expected --dataset, one of {", ".join(recipes)}, or --list.'
    )
  names.require('data set', name, recipes)
  try:
    return stages.until_stopped(
      lambda: _prepare(recipes[name], os.path.expanduser(FLAGS.data_dir)),
      module='launch.prepare_data',
      kept='Finished files are kept',
    )
  except ImportError as error:
    return cli.refuse(f'{name}: {error}')


def _list(recipes: Mapping[str, recipe.Recipe]) -> int:
  for _, each in sorted(recipes.items()):
    directory = _find(each.name)
    print(f'{each.name:14} {each.summary}')
    print(
      f'{"":14} {stages.amount(each.bytes, "bytes")} on disk; '
      f'{"in " + directory if directory else "not in " + FLAGS.data_dir}'
    )
    print(f'{"":14} needs {each.needs}')
    print(f'{"":14} licence: {each.licence}')
  return 0


def _prepare(wanted: recipe.Recipe, data_dir: str) -> int:
  _check_flags(wanted)
  directory = _find(wanted.name)
  done = 'already there, verified'
  if directory:
    _refuse_what_builds(directory)
    _index_if_it_is_tfrecord(directory)
  else:
    done = 'built and verified'
    try:
      directory = _make(wanted, data_dir)
    except FileNotFoundError as error:
      print(f'{wanted.name} is not in {data_dir}. {error}')
      print(wanted.how_to.format(data_dir=data_dir, downloads=_downloads()))
      return 1
  _verify(wanted, directory)
  print(f'{wanted.name}: {done}: {directory}')
  print(f'{wanted.name}: fingerprint {dataset.fingerprint(directory)}')
  if (epath.Path(directory) / arrays.WEIGHTS).exists():
    digest = arrays.of_data_set(directory).digest
    print(f'{wanted.name}: start weights {digest}')
  return 0


def _check_flags(wanted: recipe.Recipe) -> None:
  if FLAGS['from'].value and FLAGS.tfds:
    raise ValueError('Expected --from or --tfds, got both.')
  if FLAGS.tfds and not wanted.tfds:
    raise ValueError(f'TFDS has no builder of {wanted.name}; leave out --tfds.')
  if FLAGS.restart_markers and not wanted.jpegs:
    raise ValueError(f'{wanted.name} takes no --restart_markers.')
  if FLAGS.restart_markers and FLAGS.tfds:
    raise ValueError(
      'Expected --restart_markers with a build of our own or with --from; '
      "TFDS's builder does not know them."
    )


def _find(name: str) -> str | None:
  try:
    return dataset.find(FLAGS.data_dir, name)
  except FileNotFoundError:
    return None


def _refuse_what_builds(directory: str) -> None:
  for flag in ('from', 'tfds', 'restart_markers'):
    if FLAGS[flag].value:
      raise ValueError(
        f'Expected no data set for --{flag}, there is one in {directory}: take '
        'another --data_dir, or remove it.'
      )


def _make(wanted: recipe.Recipe, data_dir: str) -> str:
  """Builds or converts the data set; returns its directory."""
  name = wanted.name
  if '://' in data_dir:
    raise ValueError(
      f'Expected a data directory on a disk to build in, got {data_dir}: '
      'build there and copy the finished data set.'
    )
  if FLAGS['from'].value:
    print(f'{name}: converting it into {data_dir} ...', flush=True)
    return _convert(wanted, FLAGS['from'].value, data_dir)
  if FLAGS.tfds:
    return _build_by_tfds(wanted, data_dir)
  if wanted.build is None:
    raise FileNotFoundError('It cannot be built here.')
  print(f'{name}: building it in {data_dir} ...', flush=True)
  order = recipe.Order(
    data_dir,
    _downloads(),
    threads=FLAGS.threads,
    check_downloads=FLAGS.check_downloads,
    change_jpeg=restart_markers.transcode if FLAGS.restart_markers else None,
    progress=stages.Stage,
  )
  return wanted.build(order)


def _build_by_tfds(wanted: recipe.Recipe, data_dir: str) -> str:
  os.makedirs(data_dir, exist_ok=True)
  python = tfds_environment.make(
    FLAGS.tfds_environment or os.path.join(data_dir, '.tfds-environment')
  )
  print(f'{wanted.name}: TFDS builds it in {data_dir} ...', flush=True)
  return tfds_environment.build(
    python, wanted.tfds, data_dir=data_dir, downloads=_downloads()
  )


def _convert(wanted: recipe.Recipe, source: str, data_dir: str) -> str:
  info, there = dataset.load(source).info, _records(source)
  lacks = {
    name: records
    for name, records in wanted.splits.items()
    if there.get(name) != (records or there.get(name, -1))
  }
  if lacks or not info.full_name.startswith(f'{wanted.name}/'):
    raise ValueError(
      f'Expected {wanted.name} with {dict(wanted.splits)} in {source}, got '
      f'{info.full_name} with {there}.'
    )
  change = None
  if FLAGS.restart_markers:
    change = examples.changed(wanted.jpegs, restart_markers.transcode)
  return convert.convert(
    source,
    os.path.join(data_dir, info.full_name),
    change=change,
    uncompressed=bool(wanted.jpegs),
    made=_made(),
    threads=FLAGS.threads,
    progress=stages.Stage('Converting', 'records'),
  )


def _records(directory: str) -> dict[str, int]:
  """Split -> the number of its records, by the metadata."""
  splits = dataset.load(directory).info.splits
  return {name: split.num_examples for name, split in splits.items()}


def _index_if_it_is_tfrecord(directory: str) -> None:
  info = dataset.load(directory).info
  if (
    info.file_format is tfds.core.FileFormat.TFRECORD
    and not (epath.Path(directory) / tfrecord.INDEX).exists()
  ):
    progress = stages.Stage('Indexing TFRecord', 'shards')
    tfrecord.write_index(directory, progress=progress)


def _verify(wanted: recipe.Recipe, directory: str) -> None:
  """Raises unless the data set is what it should be, as far as was asked."""
  wanted.verify(directory)
  local = os.path.isdir(directory)
  has_manifest = local and manifest.read(directory) is not None
  full = FLAGS.verify == 'full'
  if full and has_manifest:
    manifest.check_sums(
      directory,
      threads=FLAGS.threads,
      progress=stages.Stage('Checking the sums', 'bytes'),
    )
  if FLAGS.verify != 'metadata':
    there = _records(directory)
    records = verify.records(
      directory,
      {name: there[name] for name in wanted.splits},
      wanted.check,
      sample=None if full else FLAGS.sample,
      threads=FLAGS.threads,
      progress=stages.Stage('Decoding', 'records') if full else None,
    )
    print(f'{wanted.name}: {records:,} records decoded')
  if FLAGS.manifest and local and not has_manifest:
    _write_manifest(directory)
  elif full and not has_manifest:
    print(
      f'{wanted.name}: it has no manifest, so no checksums were compared; '
      '--manifest writes one'
    )


def _write_manifest(directory: str) -> None:
  path = manifest.write(
    directory,
    made=_made(),
    threads=FLAGS.threads,
    progress=stages.Stage('Writing the manifest', 'bytes'),
  )
  print(f'{FLAGS.dataset}: manifest {path}')


def _made() -> dict[str, Any]:
  """Settings that the data set is made with, for its manifest."""
  return {
    'recipe': FLAGS.dataset,
    'restart_markers': FLAGS.restart_markers,
    'versions': recipe.versions(),
  }


def _downloads() -> str:
  return os.path.expanduser(
    FLAGS.downloads or os.path.join(FLAGS.data_dir, 'downloads', 'manual')
  )


if __name__ == '__main__':
  cli.run(main, define=define_flags)
