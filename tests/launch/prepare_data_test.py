"""Tests of the command that prepares data sets."""

import os
import shutil
import signal
import tempfile

from absl.testing import absltest
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.imagenet import read as imagenet
from input_pipelines.imagenet import tiny as digits
from input_pipelines.reading import arrays, dataset, tfrecord
from input_pipelines.self_play import start as minigo_start
from input_pipelines.writing import manifest
from launch import prepare_data
from tests.input_pipelines.imagenet import fake_imagenet
from tests.input_pipelines.reading import fake_tfds
from tests.launch import digits_data, processes


class PrepareDataTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.enterContext(tempfile.TemporaryDirectory())

  def prepare(self, name):
    return self.run_it(f'--dataset={name}', f'--data_dir={self.data_dir}')

  def run_it(self, *flags):
    return processes.here(prepare_data, *flags)

  def test_digits_are_built_once_and_then_found(self):
    built = self.prepare('digits')
    self.assertEqual(built.returncode, 0, built.stderr)
    directory = dataset.find(self.data_dir, 'digits')
    self.assertIn(f'built and verified: {directory}', built.stdout)
    fingerprint = dataset.fingerprint(directory)
    self.assertIn(fingerprint, built.stdout)

    again = processes.run(
      'launch.prepare_data', '--dataset=digits', f'--data_dir={self.data_dir}'
    )
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn(f'already there, verified: {directory}', again.stdout)
    self.assertEqual(dataset.fingerprint(directory), fingerprint)

  def test_the_digest_of_start_weights_is_told(self):
    weights = {'stats/target/bias': np.zeros(3, np.float32)}
    about = {minigo_start.ORIGIN: minigo_start.OURS}
    directory = minigo_start.write(self.data_dir, '9x9', weights, (), about)
    done = self.prepare(f'{minigo_start.NAME}/9x9')
    self.assertEqual(done.returncode, 0, done.stderr)
    digest = arrays.of_data_set(directory).digest
    self.assertIn(f'minigo_start/9x9: start weights {digest}\n', done.stdout)

  def test_a_damaged_data_set_is_refused_in_one_line(self):
    fake_imagenet.write(self.data_dir, {'train': 2, 'validation': 2})
    done = self.prepare(imagenet.NAME)
    self.assertEqual(done.returncode, 2)
    self.assertIn("1281167 examples in the split 'train'", done.stderr)
    self.assertNotIn('Traceback', done.stderr)

  def test_the_full_data_set_comes_with_instructions(self):
    done = self.prepare(imagenet.NAME)
    self.assertEqual(done.returncode, 1)
    self.assertIn('ILSVRC2012_img_train.tar', done.stdout)
    self.assertIn('155 GB', done.stdout)
    self.assertIn(f'{self.data_dir}/downloads/manual', done.stdout)
    self.assertNotIn('Traceback', done.stderr)
    self.assertEqual(os.listdir(self.data_dir), [])

  def test_an_unknown_name_is_refused_with_the_nearest(self):
    done = self.prepare('digts')
    self.assertEqual(done.returncode, 2)
    self.assertIn("'digts' (did you mean 'digits'?)", done.stderr)
    self.assertIn('imagenet2012', done.stderr)
    self.assertNotIn('Traceback', done.stderr)

  def test_no_name_at_all_is_refused(self):
    done = self.run_it(f'--data_dir={self.data_dir}')
    self.assertEqual(done.returncode, 2)
    self.assertIn('Expected --dataset', done.stderr)

  def test_the_list_says_what_each_data_set_is_and_whether_it_is_there(self):
    done = self.run_it('--list', f'--data_dir={digits_data.data_dir()}')
    self.assertEqual(done.returncode, 0, done.stderr)
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(' ')]
    self.assertContainsSubset(['digits', 'imagenet2012'], names)
    self.assertEqual(names, sorted(names))
    text = ' '.join(done.stdout.split())
    self.assertIn(f'in {digits_data.data_dir()}/digits/1.0.0', text)
    self.assertIn('155.0 GB on disk; not in ', text)
    self.assertIn('needs two archives that are downloaded by hand', text)
    self.assertIn('licence: research and education', text)

  def test_ctrl_c_ends_it_and_says_how_to_go_on(self):
    for name, size in (('train', 2**32), ('val', 1)):
      with open(f'{self.data_dir}/ILSVRC2012_img_{name}.tar', 'wb') as file:
        file.truncate(size)  # takes no space, but seconds to read
    process = processes.start(
      'launch.prepare_data',
      '--dataset=imagenet2012',
      f'--data_dir={self.data_dir}/data',
      f'--downloads={self.data_dir}',
    )
    self.assertIn('building it', process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=processes.LONGEST)
    self.assertEqual(process.returncode, 130, errors)
    self.assertIn('launch.prepare_data --dataset=imagenet2012', errors)
    self.assertNotIn('Traceback', errors)


class PreparedTest(absltest.TestCase):
  """Tests of a data set that is there, and of faults to be noticed in it."""

  def setUp(self):
    super().setUp()
    self.data_dir = self.enterContext(tempfile.TemporaryDirectory())

  def run_it(self, *flags):
    return processes.here(
      prepare_data,
      '--dataset=digits',
      f'--data_dir={self.data_dir}',
      *flags,
    )

  def copy(self):
    """A copy of the real one: its directory."""
    shutil.copytree(digits_data.data_dir(), self.data_dir, dirs_exist_ok=True)
    return dataset.find(self.data_dir, 'digits')

  def shard(self, directory):
    return os.path.join(directory, 'digits-train.array_record-00002-of-00004')

  def flip(self, path, position):
    with open(path, 'r+b') as file:
      file.seek(position)
      byte = file.read(1)[0]
      file.seek(position)
      file.write(bytes([byte ^ 0xFF]))

  def test_full_compares_every_byte_and_decodes_every_record(self):
    directory = self.copy()
    done = self.run_it('--verify=full')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('5,000 records decoded', done.stdout)
    self.flip(self.shard(directory), 300_000)
    done = self.run_it('--verify=full')
    self.assertEqual(done.returncode, 2)
    self.assertIn('SHA-256', done.stderr)
    self.assertIn('train.array_record-00002', done.stderr)
    self.assertNotIn('Traceback', done.stderr)

  def test_metadata_alone_finds_a_file_that_is_too_short(self):
    directory = self.copy()
    path = self.shard(directory)
    os.truncate(path, os.path.getsize(path) - 65536)
    done = self.run_it('--verify=metadata')
    self.assertEqual(done.returncode, 2)
    self.assertIn('train.array_record-00002', done.stderr)
    self.assertNotIn('Traceback', done.stderr)

  def test_a_manifest_is_written_where_others_left_none(self):
    directory = self.copy()
    os.remove(os.path.join(directory, manifest.NAME))
    done = self.run_it('--manifest')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('128 records decoded', done.stdout)
    manifest.check_sums(directory)
    self.assertEqual(manifest.read(directory)['made']['recipe'], 'digits')

  def test_one_is_not_built_over(self):
    directory = self.copy()
    done = self.run_it(f'--from={directory}')
    self.assertEqual(done.returncode, 2)
    self.assertIn('another --data_dir', done.stderr)

  def test_flags_that_do_not_fit_are_refused(self):
    for given, error in (
      (['--restart_markers'], 'digits takes no --restart_markers'),
      (['--tfds'], 'no builder of digits'),
      (['--tfds', '--from=x'], 'got both'),
    ):
      done = self.run_it(*given)
      self.assertEqual(done.returncode, 2)
      self.assertIn(error, done.stderr)


class TFRecordTest(absltest.TestCase):
  """Tests of data sets as TFDS writes them by default."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.data_dir = cls.enterClassContext(tempfile.TemporaryDirectory())
    jpeg = fake_imagenet.jpeg(1)
    cls.directory = fake_tfds.write(
      cls.data_dir,
      name='digits',
      version='1.0.0',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(encoding_format='jpeg'),
          'label': tfds.features.ClassLabel(num_classes=10),
          'file_name': tfds.features.Text(),
        }
      ),
      examples={
        split: [
          {'image': jpeg, 'label': i % 10, 'file_name': str(i)}
          for i in range(records)
        ]
        for split, records in digits.SPLITS.items()
      },
      file_format='tfrecord',
    )

  def test_one_that_is_there_gets_its_index(self):
    index = os.path.join(self.directory, tfrecord.INDEX)
    self.assertFalse(os.path.exists(index))
    done = processes.here(
      prepare_data, '--dataset=digits', f'--data_dir={self.data_dir}'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Indexing TFRecord: 6 shards of 6 shards', done.stdout)
    self.assertTrue(os.path.exists(index))
    os.remove(index)

  def test_one_elsewhere_is_converted(self):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    done = processes.here(
      prepare_data,
      '--dataset=digits',
      f'--data_dir={data_dir}',
      f'--from={self.directory}',
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    directory = dataset.find(data_dir, 'digits')
    self.assertIn(f'built and verified: {directory}', done.stdout)
    manifest.check_sums(directory)
    split = dataset.Split(directory, 'train')
    self.assertEqual(split[7]['file_name'].bytes_list.value[0], b'7')

  def test_another_data_set_is_not_taken_for_it(self):
    done = processes.here(
      prepare_data,
      '--dataset=imagenet2012',
      f'--data_dir={self.data_dir}',
      f'--from={self.directory}',
    )
    self.assertEqual(done.returncode, 2)
    self.assertIn("{'train': 1281167, 'validation': 50000}", done.stderr)
    self.assertIn('got digits/1.0.0', done.stderr)


if __name__ == '__main__':
  absltest.main()
