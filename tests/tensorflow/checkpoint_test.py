"""Checkpoints that TensorFlow writes, as our reader reads them.

The first of them is kept in tests/input_pipelines/writing/checkpoint/, for the
tests that have no TensorFlow. To write it anew:

.venv-tensorflow/bin/python -m tests.tensorflow.checkpoint_test DIRECTORY
"""

import os
import sys

from absl.testing import absltest
import numpy as np
import pytest

from input_pipelines.writing import published

tf = pytest.importorskip('tensorflow')
pytestmark = pytest.mark.tensorflow


def variables() -> dict[str, np.ndarray]:
  """Names like BERT's, in more than one group of an index; several dtypes."""
  found = {
    f'bert/encoder/layer_{n}/output/dense/{name}': np.full(shape, n + 0.5, 'f4')
    for n in range(12)
    for name, shape in (('kernel', (2, 3)), ('bias', (3,)))
  }
  for dtype in ('f2', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', '?'):
    found[f'of_{np.dtype(dtype).name}'] = np.array([0, 1, 1]).astype(dtype)
  return {**found, 'global_step': np.int64(2**40), 'empty': np.zeros((0, 2))}


def write(path: str, named: dict[str, np.ndarray]) -> None:
  """Writes variables, and a text, as TensorFlow 1 does."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    kept = [tf.Variable(value, name=name) for name, value in named.items()]
    kept.append(tf.Variable('a text', name='text'))
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver(kept).save(
      session, path, write_meta_graph=False, write_state=False
    )


class CheckpointTest(absltest.TestCase):
  def assert_read(self, named):
    prefix = os.path.join(self.create_tempdir().full_path, 'model')
    write(prefix, named)
    found = published.tensorflow(prefix)
    self.assertCountEqual(found, named)
    for name, values in named.items():
      np.testing.assert_array_equal(found[name], values, strict=True)

  def test_a_checkpoint_of_tensorflow_1_is_read(self):
    self.assert_read(variables())

  def test_an_index_of_several_blocks_is_read(self):
    name = 'a_long_name_' * 20
    self.assert_read({f'{n}/{name}': np.int32(n) for n in range(4000)})

  def test_a_checkpoint_of_tensorflow_2_is_read(self):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    prefix = os.path.join(self.create_tempdir().full_path, 'model')
    path = tf.train.Checkpoint(kernel=tf.Variable(kernel)).save(prefix)
    found = published.tensorflow(path)
    np.testing.assert_array_equal(
      found['kernel/.ATTRIBUTES/VARIABLE_VALUE'], kernel
    )

  def test_partitioned_variables_are_refused(self):
    prefix = os.path.join(self.create_tempdir().full_path, 'model')
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      tf.compat.v1.get_variable(
        'table', (8, 2), partitioner=tf.compat.v1.fixed_size_partitioner(2)
      )
      session.run(tf.compat.v1.global_variables_initializer())
      tf.compat.v1.train.Saver().save(session, prefix)
    with self.assertRaisesRegex(ValueError, "'table' in one piece"):
      _ = published.tensorflow(prefix)['table']


if __name__ == '__main__':
  write(os.path.join(sys.argv[1], 'model'), variables())
