"""Tests of the environment in which TFDS builds data sets."""

import io
import os
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

from launch.support import tfds_environment
from tests.launch import processes

# Stands for the environment's Python: writes what `tfds build` would.
_FAKE = f"""#!{sys.executable}
import os, sys
flags = dict(a[2:].split('=', 1) for a in sys.argv if a.startswith('--'))
assert sys.argv[1:5] == [
  '-m', 'tensorflow_datasets.scripts.cli.main', 'build', 'imagenet2012'
], sys.argv
assert flags['file_format'] == 'array_record'
if os.path.exists(flags['manual_dir']):
  sys.path.insert(0, {str(processes.ROOT)!r})
  from tests.input_pipelines.imagenet import fake_imagenet
  fake_imagenet.write(flags['data_dir'], {{'train': 3, 'validation': 2}})
else:
  os.makedirs(flags['data_dir'] + '/imagenet2012/5.1.0.incomplete')
  sys.exit('no archives')
"""


class EnvironmentTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enterContext(tempfile.TemporaryDirectory())
    self.directory = os.path.join(self.root, 'environment')

  def make(self, wanted, code=0):
    """The commands that making it runs."""
    commands = []

    def run(command, **kwargs):
      del kwargs
      commands.append(command)
      os.makedirs(self.directory, exist_ok=True)
      return mock.Mock(returncode=code)

    with (
      mock.patch.object(tfds_environment, 'requirements', lambda: wanted),
      mock.patch.object(tfds_environment.subprocess, 'run', run),
      mock.patch('sys.stdout', io.StringIO()),
    ):
      python = tfds_environment.make(self.directory)
    self.assertEqual(python, os.path.join(self.directory, 'bin', 'python'))
    return commands

  def test_it_is_made_once(self):
    commands = self.make(['one>=1', 'two'])
    self.assertEqual(commands[0][1:3], ['-m', 'venv'])
    self.assertEqual(commands[1][-2:], ['one>=1', 'two'])
    self.assertEqual(self.make(['one>=1', 'two']), [])
    self.assertLen(self.make(['one>=2', 'two']), 2)

  def test_one_that_failed_half_way_is_made_anew(self):
    with self.assertRaisesRegex(OSError, 'exit code 0, got 1: .*venv'):
      self.make(['one'], code=1)
    self.assertLen(self.make(['one']), 2)

  def test_the_project_declares_what_goes_in(self):
    found = tfds_environment.requirements()
    for package in ('tensorflow-datasets', 'tensorflow-cpu', 'apache-beam'):
      self.assertTrue(any(each.startswith(package) for each in found), found)

  def test_an_installed_project_declares_the_same(self):
    requires = ['jax>=1', 'x>=2; extra == "prepare"', "y ; extra == 'dev'"]
    with mock.patch.object(
      tfds_environment.metadata, 'requires', return_value=requires
    ):
      self.assertEqual(tfds_environment._of_installed(), ['x>=2'])


class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enterContext(tempfile.TemporaryDirectory())
    self.python = os.path.join(self.root, 'python')
    with open(self.python, 'w') as file:
      file.write(_FAKE)
    os.chmod(self.python, 0o755)
    self.data_dir = os.path.join(self.root, 'data')
    os.makedirs(self.data_dir)

  def build(self, downloads):
    return tfds_environment.build(
      self.python, 'imagenet2012', data_dir=self.data_dir, downloads=downloads
    )

  def test_what_tfds_builds_is_moved_into_place(self):
    directory = self.build(self.root)
    self.assertEqual(directory, f'{self.data_dir}/imagenet2012/5.1.0')
    self.assertIn('dataset_info.json', os.listdir(directory))
    self.assertEqual(os.listdir(self.data_dir), ['imagenet2012'])
    with self.assertRaisesRegex(FileExistsError, 'imagenet2012/5.1.0'):
      self.build(self.root)

  def test_a_build_that_fails_is_not_moved(self):
    for _ in range(2):
      with self.assertRaisesRegex(
        OSError, 'exit code 0, got 1: .*build imagenet2012'
      ):
        self.build('/nonexistent')
      self.assertFalse(os.path.exists(f'{self.data_dir}/imagenet2012'))


if __name__ == '__main__':
  absltest.main()
