"""Tests of the command that prepares data sets."""

import tempfile

from absl.testing import absltest

from input_pipelines import dataset, imagenet
from tests.input_pipelines import fake_imagenet
from tests.launch import processes


class PrepareDataTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.enterContext(tempfile.TemporaryDirectory())

  def prepare(self, name):
    return self.run_it(f'--dataset={name}', f'--data_dir={self.data_dir}')

  def run_it(self, *flags):
    return processes.run('launch.prepare_data', *flags)

  def test_digits_are_built_once_and_then_found(self):
    built = self.prepare('digits')
    self.assertEqual(built.returncode, 0, built.stderr)
    directory = dataset.find(self.data_dir, 'digits')
    self.assertIn(f'built and verified: {directory}', built.stdout)
    fingerprint = dataset.fingerprint(directory)
    self.assertIn(fingerprint, built.stdout)

    again = self.prepare('digits')
    self.assertEqual(again.returncode, 0, again.stderr)
    self.assertIn(f'already there, verified: {directory}', again.stdout)
    self.assertEqual(dataset.fingerprint(directory), fingerprint)

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
    self.assertIn('150 GB', done.stdout)
    self.assertIn(f'{self.data_dir}/downloads/manual', done.stdout)
    self.assertNotIn('Traceback', done.stderr)

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

  def test_the_list_names_every_data_set(self):
    done = self.run_it('--list')
    self.assertEqual(done.returncode, 0, done.stderr)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    self.assertEqual(names, ['digits', 'imagenet2012'])


if __name__ == '__main__':
  absltest.main()
