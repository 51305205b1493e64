"""The ImageNet that we write, against the one that TFDS's builder writes."""

import contextlib
import io
import json
import os
import tempfile

from absl.testing import absltest, parameterized
from array_record.python import array_record_module
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from input_pipelines.imagenet import prepare as imagenet
from input_pipelines.images import decode
from input_pipelines.writing import recipe
from tests.input_pipelines.imagenet import fake_archives, fake_imagenet

tf = pytest.importorskip('tensorflow')
pytestmark = pytest.mark.tensorflow

_SHARDS = 3


def setUpModule():
  global _ours, _theirs, _temporary
  _temporary = tempfile.TemporaryDirectory()
  downloads = os.path.join(_temporary.name, 'downloads')
  archives = fake_archives.write(downloads, shards=_SHARDS)
  ours = os.path.join(_temporary.name, 'ours')
  _ours = imagenet.build(recipe.Order(ours, downloads), archives)
  _theirs = _by_tfds(os.path.join(_temporary.name, 'theirs'), downloads)


def tearDownModule():
  _temporary.cleanup()


def _by_tfds(data_dir, downloads):
  builder = tfds.builder(
    'imagenet2012', data_dir=data_dir, file_format='array_record'
  )
  config = tfds.download.DownloadConfig(
    manual_dir=downloads, num_shards=_SHARDS
  )
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(download_config=config)
  return os.fspath(builder.data_path)


def _records(path):
  reader = array_record_module.ArrayRecordReader(path)
  try:
    return [reader.read([i])[0] for i in range(reader.num_records())]
  finally:
    reader.close()


class BuilderTest(parameterized.TestCase):
  def test_every_shard_holds_the_same_bytes_in_the_same_order(self):
    shards = sorted(n for n in os.listdir(_theirs) if 'array_record' in n)
    self.assertLen(shards, 2 * _SHARDS)
    for name in shards:
      ours = _records(os.path.join(_ours, name))
      self.assertNotEmpty(ours)
      self.assertEqual(ours, _records(os.path.join(_theirs, name)), name)

  def test_the_metadata_is_the_same(self):
    self.assertEqual(
      {*os.listdir(_ours)} - {'manifest.json'}, {*os.listdir(_theirs)}
    )
    for name in ('features.json', 'label.labels.txt'):
      self.assertEqual(self.text(_ours, name), self.text(_theirs, name))
    self.assertEqual(self.info(_ours), self.info(_theirs))

  def test_tfds_reads_ours_and_finds_the_stragglers_in_rgb(self):
    source = tfds.builder_from_directory(_ours).as_data_source('train')
    images_of = {e['file_name'].decode(): e['image'] for e in source}
    self.assertLen(images_of, 22)
    np.testing.assert_allclose(
      images_of[fake_archives.PNG].astype(int),
      fake_imagenet.photo(1).astype(int),
      atol=60,  # one pixel of colour for four
    )
    self.assertEqual(images_of[fake_archives.CMYK].shape[-1], 3)

  def text(self, directory, name):
    with open(os.path.join(directory, name), encoding='utf-8') as file:
      return file.read()

  def info(self, directory):
    return json.loads(self.text(directory, 'dataset_info.json'))


class StragglerTest(parameterized.TestCase):
  @parameterized.parameters(
    ('adobe', False), ('adobe, YCCK', False), ('plain', True)
  )
  def test_cmyk_becomes_the_bytes_that_tensorflow_makes(self, kind, plain):
    jpeg = fake_archives.cmyk()
    at = jpeg.index(b'\xff\xee')
    length = int.from_bytes(jpeg[at + 2 : at + 4], 'big')
    if kind == 'adobe, YCCK':
      jpeg = jpeg[: at + 15] + b'\x02' + jpeg[at + 16 :]
    if plain:
      jpeg = jpeg[:at] + jpeg[at + 2 + length :]
    expected = tfds.core.utils.jpeg_cmyk_to_rgb(jpeg)
    self.assertEqual(imagenet.as_rgb_jpeg(jpeg), expected)

  @parameterized.parameters('RGB', 'RGBA', 'L', 'LA', 'P')
  def test_png_becomes_the_bytes_that_tensorflow_makes(self, mode):
    data = io.BytesIO()
    image = Image.fromarray(fake_imagenet.photo(4)).convert('RGBA')
    image.putalpha(100)
    image.convert(mode).save(data, 'PNG')
    expected = tfds.core.utils.png_to_jpeg(data.getvalue())
    self.assertEqual(imagenet.as_rgb_jpeg(data.getvalue()), expected)

  def test_a_straggler_decodes_as_in_tensorflow(self):
    jpeg = imagenet.as_rgb_jpeg(fake_archives.cmyk())
    np.testing.assert_array_equal(
      decode.decode(jpeg), tf.io.decode_jpeg(jpeg, channels=3).numpy()
    )


if __name__ == '__main__':
  absltest.main()
