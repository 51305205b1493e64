"""Tests of weights that others published, beside what PyTorch reads itself."""

import os
import pathlib

from absl.testing import absltest, parameterized
import numpy as np
import torch

from input_pipelines.writing import published

# Written by tests/tensorflow/checkpoint_test.py, with TensorFlow 2.21.
_CHECKPOINT = os.path.join(os.path.dirname(__file__), 'checkpoint', 'model')
_FORMATS = tuple(
  {'_use_new_zipfile_serialization': new} for new in (True, False)
)


class _Harmful:
  def __reduce__(self):
    return os.mkdir, ('harm',)


class PytorchTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'file.pth')

  def save(self, value, **how):
    torch.save(value, self.path, **how)
    return published.pytorch(self.path)

  @parameterized.parameters(*_FORMATS)
  def test_tensors_are_those_that_pytorch_reads(self, **how):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    wanted = {name: v.numpy() for name, v in net.state_dict().items()}
    found = self.save(net.state_dict(), **how)
    self.assertCountEqual(found, wanted)
    for name, values in wanted.items():
      np.testing.assert_array_equal(found[name], values, strict=True)

  @parameterized.parameters(*_FORMATS)
  def test_parts_of_storages_and_every_dtype_are_read(self, **how):
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
      'rows': whole[1:3],
      'turned': whole.T,
      'steps': whole[::2, 1::3],
      'parameter': torch.nn.Parameter(whole[:, 0]),
      'scalar': torch.tensor(3),
      'empty': torch.zeros(0, 3),
      **{
        str(dtype): torch.tensor([0, 1, 1], dtype=dtype)
        for dtype in (
          torch.float16, torch.float64, torch.int8, torch.int16, torch.int32,
          torch.uint8, torch.bool,
        )
      },
    }  # fmt: skip
    found = self.save({'model': tensors, 'epoch': 3, 'old': [whole]}, **how)
    self.assertLen(found, len(tensors) + 1)
    np.testing.assert_array_equal(found['old/0'], whole.numpy())
    for name, tensor in tensors.items():
      values = tensor.detach().numpy()
      np.testing.assert_array_equal(found[f'model/{name}'], values, strict=True)

  def test_bfloat16_is_read(self):
    found = self.save({'x': torch.tensor([1.5, -2.0], dtype=torch.bfloat16)})
    np.testing.assert_array_equal(found['x'].astype(np.float32), [1.5, -2.0])

  @parameterized.parameters(*_FORMATS)
  def test_nothing_that_a_file_holds_is_executed(self, **how):
    for value in (_Harmful(), torch.nn.Linear(2, 2)):
      with self.assertRaisesRegex(ValueError, 'which is not read'):
        self.save({'x': torch.ones(2), 'y': value}, **how)
    self.assertFalse(os.path.exists('harm'))

  @parameterized.parameters(*_FORMATS)
  def test_a_file_that_was_cut_off_is_refused(self, **how):
    self.save({'x': torch.ones(1000)}, **how)
    data = pathlib.Path(self.path).read_bytes()
    for length in (0, 30, len(data) // 2, len(data) - 100):
      pathlib.Path(self.path).write_bytes(data[:length])
      with self.assertRaises(ValueError):
        published.pytorch(self.path)['x'].sum()

  def test_a_tensor_beyond_its_storage_is_refused(self):
    tensor = published._Tensor(np.dtype('<f4'), '0', 1, (2, 2), (2, 1))
    self.assertEqual(tensor.of(bytes(20)).shape, (2, 2))
    with self.assertRaisesRegex(ValueError, 'up to 4 .*got 4'):
      tensor.of(bytes(16))


class TensorflowTest(parameterized.TestCase):
  def test_every_variable_is_read_and_no_text(self):
    found = published.tensorflow(_CHECKPOINT)
    self.assertLen(found, 12 * 2 + 9 + 2)
    for layer in range(12):
      path = f'bert/encoder/layer_{layer}/output/dense'
      for name, shape in (('kernel', (2, 3)), ('bias', (3,))):
        wanted = np.full(shape, layer + 0.5, np.float32)
        np.testing.assert_array_equal(
          found[f'{path}/{name}'], wanted, strict=True
        )
    for dtype in ('f2', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', '?'):
      wanted = np.array([0, 1, 1]).astype(dtype)
      np.testing.assert_array_equal(
        found[f'of_{wanted.dtype.name}'], wanted, strict=True
      )
    self.assertEqual(found['global_step'], 2**40)
    self.assertEqual(found['empty'].shape, (0, 2))

  @parameterized.parameters('.index', '.data-00000-of-00001')
  def test_a_byte_that_changed_is_noticed(self, suffix):
    prefix = os.path.join(self.create_tempdir().full_path, 'model')
    for each in ('.index', '.data-00000-of-00001'):
      pathlib.Path(prefix + each).write_bytes(
        pathlib.Path(_CHECKPOINT + each).read_bytes()
      )
    data = pathlib.Path(prefix + suffix).read_bytes()
    dict(published.tensorflow(prefix))
    for at in range(0, len(data) - (100 if suffix == '.index' else 20), 7):
      changed = bytearray(data)
      changed[at] ^= 64
      pathlib.Path(prefix + suffix).write_bytes(changed)
      with self.assertRaisesRegex(ValueError, 'checksum|damaged'):
        dict(published.tensorflow(prefix))

  def test_a_file_that_is_no_index_is_refused(self):
    prefix = os.path.join(self.create_tempdir().full_path, 'model')
    for data in (b'', bytes(100), b'x' * 100):
      pathlib.Path(f'{prefix}.index').write_bytes(data)
      with self.assertRaisesRegex(ValueError, 'Expected the index of a Tensor'):
        published.tensorflow(prefix)


if __name__ == '__main__':
  absltest.main()
