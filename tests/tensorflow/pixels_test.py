"""Our pixels, crops and labels against those of TensorFlow's operators."""

import os
import tempfile

from absl.testing import absltest, parameterized
import numpy as np
import pytest
from scipy import stats
import simplejpeg

from input_pipelines.imagenet import read as imagenet
from input_pipelines.images import crops, decode
from input_pipelines.reading import dataset
from tests.input_pipelines.imagenet import fake_imagenet

tf = pytest.importorskip('tensorflow')
pytestmark = pytest.mark.tensorflow

_RECORDS = 24
_REFERENCE = imagenet.Preprocessing()


def setUpModule():
  global _split, _temporary
  _temporary = tempfile.TemporaryDirectory()
  directory = fake_imagenet.write(_temporary.name, {'validation': _RECORDS})
  _split = dataset.Split(directory, 'validation')


def tearDownModule():
  _temporary.cleanup()


def _jpeg(sampling, height, width):
  """A picture in one of the ways that colour is sampled."""
  y, x = np.mgrid[:height, :width][..., None]
  rng = np.random.default_rng(height * width)
  waves = np.sin(x * rng.uniform(0.02, 0.4, 3) + y * rng.uniform(0.02, 0.4, 3))
  noise = rng.normal(0, 15, (height, width, 3))
  image = np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)
  if sampling == 'Gray':
    grey = np.ascontiguousarray(image[..., :1])
    return simplejpeg.encode_jpeg(grey, 90, 'GRAY', 'Gray')
  return simplejpeg.encode_jpeg(image, 90, 'RGB', sampling)


def _boxes(sizes, seed):
  return _REFERENCE.crops().draw(np.array(sizes), seed=seed, first=0)


def _bilinear(image, height, width):
  """The references' resize: float32 [height, width, 3]."""
  return tf.compat.v1.image.resize(
    image, [height, width], tf.image.ResizeMethod.BILINEAR, align_corners=False
  ).numpy()


def _evaluated(jpeg):
  """The references' evaluation transform, but for the means."""
  image = tf.io.decode_jpeg(jpeg, channels=3)
  height, width = (np.float32(side) for side in image.shape[:2])
  scale = np.float32(256) / min(height, width)
  image = _bilinear(image, int(height * scale), int(width * scale))
  top, left = ((side - 224) // 2 for side in image.shape[:2])
  return image[top : top + 224, left : left + 224]


class PixelsTest(parameterized.TestCase):
  @parameterized.product(
    sampling=('Gray', '444', '422', '440', '420', '411'),
    size=((375, 500), (61, 47), (1, 1), (17, 8)),
  )
  def test_decoding_is_equal_bit_for_bit(self, sampling, size):
    jpeg = _jpeg(sampling, *size)
    np.testing.assert_array_equal(
      decode.decode(jpeg), tf.io.decode_jpeg(jpeg, channels=3).numpy()
    )

  @parameterized.product(
    sampling=('Gray', '444', '422', '440', '420'), size=((375, 500), (130, 97))
  )
  def test_crops_of_the_same_boxes_are_equal(self, sampling, size):
    jpeg = _jpeg(sampling, *size)
    whole = tf.io.decode_jpeg(jpeg, channels=3).numpy()
    for y, x, h, w in _boxes([size] * 20, seed=3):
      ours = decode.decode_crop(jpeg, (y, x, h, w))
      np.testing.assert_array_equal(ours, whole[y : y + h, x : x + w])
      theirs = tf.image.decode_and_crop_jpeg(jpeg, (y, x, h, w), channels=3)
      error = np.abs(theirs.numpy().astype(int) - ours)
      # Where colour has half the columns of light, TensorFlow's cropped decode
      # interpolates the first and the last column without the neighbour that
      # it left out; ours has the pixels of the whole image there.
      if sampling in ('422', '420'):
        self.assertLess(error[:, [0, -1]].mean(), 4)
        error = error[:, 1:-1]
      self.assertFalse(error.any())

  @parameterized.product(
    sampling=('Gray', '444', '422', '420'), mirrored=(False, True)
  )
  def test_training_pixels_differ_by_rounding_alone(self, sampling, mirrored):
    size = (375, 500)
    jpeg = _jpeg(sampling, *size)
    whole = tf.io.decode_jpeg(jpeg, channels=3)
    for y, x, h, w in _boxes([size] * 10, seed=5):
      out = np.zeros((224, 224, 3), np.uint8)
      decode.crop_and_resize(jpeg, (y, x, h, w), out, mirrored=mirrored)
      for crop, most in (
        (whole[y : y + h, x : x + w], 0.52),
        (tf.image.decode_and_crop_jpeg(jpeg, (y, x, h, w), channels=3), 64),
      ):
        if mirrored:  # before the resize, as the references do
          crop = tf.image.flip_left_right(crop)
        error = np.abs(out - _bilinear(crop, 224, 224))
        self.assertLess(error.max(), most)  # of 255
        self.assertLess(error.mean(), 0.3)  # rounding alone makes 0.25

  def test_eval_batches_are_those_of_the_references(self):
    batches = list(
      imagenet.eval_batches(_split, batch_size=10, preprocessing=_REFERENCE)
    )
    image = np.concatenate([batch['image'] for batch in batches])
    label = np.concatenate([batch['label'] for batch in batches])
    weight = np.concatenate([batch['weight'] for batch in batches])
    self.assertEqual(weight.sum(), _RECORDS)
    for i in range(_RECORDS):
      features = _split[i]
      expected = _evaluated(features['image'].bytes_list.value[0])
      error = np.abs(image[i] - expected)
      self.assertLess(error.mean(), 0.27)  # of 255: rounding, 0.25
      self.assertLess(error.max(), 0.52)
      self.assertEqual(label[i], features['label'].int64_list.value[0])

  def test_tf_data_finds_the_same_labels_and_images_in_the_records(self):
    schema = {
      'image': tf.io.FixedLenFeature([], tf.string),
      'label': tf.io.FixedLenFeature([], tf.int64),
    }
    path = os.path.join(_temporary.name, 'records')
    with tf.io.TFRecordWriter(path) as writer:
      for i in range(_RECORDS):
        features = tf.train.Features()
        for name in schema:
          features.feature[name].ParseFromString(
            _split[i][name].SerializeToString()
          )
        writer.write(tf.train.Example(features=features).SerializeToString())
    records = tf.data.TFRecordDataset(path).map(
      lambda record: tf.io.parse_single_example(record, schema)
    )
    for i, record in enumerate(records):
      self.assertEqual(record['label'], i)
      np.testing.assert_array_equal(
        tf.io.decode_jpeg(record['image'], channels=3).numpy(),
        decode.decode(_split[i]['image'].bytes_list.value[0]),
      )


class BoxesTest(parameterized.TestCase):
  @parameterized.parameters((375, 500), (500, 333), (60, 47), (120, 1000))
  def test_boxes_are_distributed_as_the_operators(self, height, width):
    draws = 4000
    ours = _boxes([(height, width)] * draws, seed=11)
    theirs = np.array([self.theirs(height, width, i) for i in range(draws)])
    for name, of in (
      ('area', lambda y, x, h, w: h * w),
      ('aspect', lambda y, x, h, w: w / h),
      ('height', lambda y, x, h, w: h),
      # Where it lies of where it might: with the crop's size it is coupled.
      ('top', lambda y, x, h, w: (y + 0.5) / (height - h + 1)),
      ('left', lambda y, x, h, w: (x + 0.5) / (width - w + 1)),
      ('bottom', lambda y, x, h, w: y + h),
      ('right', lambda y, x, h, w: x + w),
    ):
      result = stats.ks_2samp(of(*ours.T), of(*theirs.T))
      self.assertGreater(result.pvalue, 1e-3, f'{name}: {result}')

  def test_other_constants_would_be_noticed(self):
    draws, (height, width) = 4000, (375, 500)
    # That a tenth must be covered decides the smallest crop, not the 0.05.
    changed = crops.Crops((0.05, 1.0), (0.75, 1.33), 100, 0.05)
    sizes = np.array([(height, width)] * draws)
    ours = changed.draw(sizes, seed=11, first=0)
    theirs = np.array([self.theirs(height, width, i) for i in range(draws)])
    areas = [each[:, 2] * each[:, 3] for each in (ours, theirs)]
    self.assertLess(stats.ks_2samp(*areas).pvalue, 1e-3)

  def theirs(self, height, width, seed):
    """y x height width, with the constants of the references."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
      [height, width, 3],
      tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      seed=(seed, 7),
      min_object_covered=0.1,
      aspect_ratio_range=[0.75, 1.33],
      area_range=[0.05, 1.0],
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    return [*begin.numpy()[:2], *size.numpy()[:2]]


if __name__ == '__main__':
  absltest.main()
