"""Tests of the weights that a size declares, as commands open them."""

import dataclasses
import os

from absl.testing import absltest
import numpy as np

from input_pipelines.reading import arrays, dataset
from input_pipelines.writing import manifest
from input_pipelines.writing import weights as weights_lib
from launch.support import start
from suite import benchmark
from suite.benchmark import Start
from tests.suite.run import fake_task

SLOPE = {'params/slope': np.float32(2.0)}


class FromWeights(fake_task.FakeTask):
  given = ('^params/',)


class StartTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.create_tempdir().full_path
    self.task = FromWeights([0.9])
    tiny = benchmark.get('resnet').size('tiny')
    self.size = dataclasses.replace(tiny, start=Start('slope_start'))
    self.directory = weights_lib.write(
      self.data_dir, 'slope_start', '1.0.0', SLOPE, {'of': 'a line'},
      summary='A slope to start from.',
    )  # fmt: skip
    self.digest = arrays.of_data_set(self.directory).digest

  def opened(self, **changes):
    size = dataclasses.replace(self.size, **changes)
    return start.weights(size, self.task, self.data_dir)

  def replace(self, value):
    """Puts other weights there, as their owner would."""
    path = os.path.join(self.directory, arrays.WEIGHTS)
    before = os.path.getsize(path)
    about = arrays.Arrays(path).about
    arrays.write(path, {'params/slope': value}, about)
    self.assertEqual(os.path.getsize(path), before)

  def test_they_are_found_as_a_data_set_and_named_with_their_digest(self):
    self.assertEqual(dataset.find(self.data_dir, 'slope_start'), self.directory)
    manifest.check_sums(self.directory)
    found = self.opened()
    self.assertEqual(found.about, {'of': 'a line'})
    self.assertEqual(
      start.described(self.size, found),
      {'start_weights': 'slope_start', 'start_sha256': self.digest},
    )

  def test_a_size_without_any_has_none(self):
    size = dataclasses.replace(self.size, start=None)
    task = fake_task.FakeTask([0.9])
    self.assertIsNone(start.weights(size, task, self.data_dir))
    self.assertEqual(start.described(size, None), {})

  def test_a_task_that_needs_some_is_refused_where_none_are_declared(self):
    with self.assertRaisesRegex(ValueError, 'params/slope .*declares none'):
      self.opened(start=None)

  def test_other_weights_of_the_same_shape_are_refused(self):
    self.replace(np.float32(2.5))
    with self.assertRaisesRegex(ValueError, f'digest {self.digest}.*others'):
      self.opened()

  def test_a_declared_digest_refuses_weights_with_a_manifest_too(self):
    declared = Start('slope_start', sha256=self.digest)
    self.assertEqual(self.opened(start=declared).digest, self.digest)
    self.replace(np.float32(2.5))
    manifest.write(self.directory, made={})
    self.assertNotEqual(self.opened().digest, self.digest)
    with self.assertRaisesRegex(ValueError, f'digest {self.digest}.*others'):
      self.opened(start=declared)

  def test_weights_of_another_shape_are_refused(self):
    self.replace(np.ones((), np.int32))
    manifest.write(self.directory, made={})
    with self.assertRaisesRegex(ValueError, r'float32 \(\) .* got int32 \(\)'):
      self.opened()

  def test_a_process_with_other_weights_than_process_0_is_refused(self):
    found = self.opened()
    start.require_alike(found, lambda number: number)
    for other in (found, None):
      with self.assertRaisesRegex(ValueError, 'process 0 in .*, got others'):
        start.require_alike(other, lambda number: number ^ 1)

  def test_weights_that_are_not_there_are_missed(self):
    with self.assertRaisesRegex(FileNotFoundError, "'other_start'"):
      self.opened(start=Start('other_start'))


if __name__ == '__main__':
  absltest.main()
