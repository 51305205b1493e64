"""Tests of decoding and resizing against TensorFlow's numbers."""

import concurrent.futures

from absl.testing import absltest, parameterized
import numpy as np
import simplejpeg

from input_pipelines.images import decode, restart_jpeg, restart_markers
from tests.input_pipelines.images import odd_jpegs


def _pattern(height, width):
  """The picture that the golden numbers were made of: uint8 [H, W, 3]."""
  y = np.arange(height)[:, None, None] * 37
  x = np.arange(width)[None, :, None] * 53
  return ((y + x + np.arange(3) * 71) ** 2 % 251).astype(np.uint8)


def _resized(image, height, width, **kwargs):
  out = np.zeros((height, width, 3), np.uint8)
  decode.resize(image, out, **kwargs)
  return out


def _exact(image, height, width):
  """The same resize, written out, in double precision: float64 [h, w, 3]."""
  y = np.arange(height) * image.shape[0] / height
  x = np.arange(width) * image.shape[1] / width
  top, left = y.astype(int), x.astype(int)
  bottom = np.minimum(top + 1, image.shape[0] - 1)
  right = np.minimum(left + 1, image.shape[1] - 1)
  down, along = (y - top)[:, None, None], (x - left)[:, None]
  image = image.astype(np.float64)
  rows = image[top] * (1 - down) + image[bottom] * down
  return rows[:, left] * (1 - along) + rows[:, right] * along


class ResizeTest(parameterized.TestCase):
  # One channel of tf.compat.v1.image.resize_bilinear (TensorFlow 2.21; with
  # align_corners=False and half_pixel_centers=False) of the pattern, flipped
  # first or not, rounded.
  @parameterized.parameters(
    {
      'size': (5, 7),
      'channel': 0,
      'mirrored': False,
      'golden': [
        [0, 156, 98, 202],
        [137, 87, 43, 99],
        [114, 78, 142, 118],
        [56, 81, 112, 102],
      ],
    },
    {
      'size': (5, 7),
      'channel': 2,
      'mirrored': True,
      'golden': [
        [7, 110, 125, 114],
        [24, 82, 82, 120],
        [132, 144, 68, 60],
        [205, 31, 113, 107],
      ],
    },
    {
      'size': (2, 3),
      'channel': 1,
      'mirrored': False,
      'golden': [
        [21, 54, 135, 205],
        [70, 67, 113, 160],
        [118, 80, 91, 114],
        [118, 80, 91, 114],
      ],
    },
    {
      'size': (2, 3),
      'channel': 1,
      'mirrored': True,
      'golden': [
        [205, 100, 43, 21],
        [160, 90, 68, 70],
        [114, 80, 93, 118],
        [114, 80, 93, 118],
      ],
    },
  )
  def test_the_resize_is_that_of_the_references(
    self, size, channel, mirrored, golden
  ):
    out = _resized(_pattern(*size), 4, 4, mirrored=mirrored)
    # A value that ends in a half may round either way.
    np.testing.assert_allclose(out[..., channel], golden, atol=1)

  @parameterized.parameters(
    (375, 500, 224), (28, 28, 28), (60, 47, 224), (400, 13, 32), (1, 1, 5)
  )
  def test_no_pixel_is_off_by_more_than_rounding(self, height, width, size):
    image = _pattern(height, width)
    error = np.abs(_resized(image, size, size) - _exact(image, size, size))
    self.assertLess(error.max(), 0.51)

  def test_a_crop_is_resized_as_if_nothing_lay_around_it(self):
    image = _pattern(40, 50)
    view = image[3:20, 7:31]
    np.testing.assert_array_equal(
      _resized(view, 9, 9), _resized(np.ascontiguousarray(view), 9, 9)
    )

  def test_only_the_given_row_of_a_batch_is_written(self):
    batch = np.zeros((3, 8, 8, 3), np.uint8)
    decode.resize(np.full((5, 5, 3), 9, np.uint8), batch[1])
    self.assertTrue(np.all(batch[1] == 9))
    self.assertFalse(np.any(batch[[0, 2]]))


class ResizeAndCropTest(parameterized.TestCase):
  # Channel 0 of the references' evaluation transform, run in TensorFlow 2.21.
  # The second is cut at (3, 4), not (4, 4): 41 * float32(4 / 41) is below 4.
  @parameterized.parameters(
    {
      'size': (9, 14),
      'shorter': 6,
      'golden': [
        [51, 139, 61, 106],
        [116, 97, 78, 99],
        [124, 164, 38, 132],
        [86, 185, 202, 175],
      ],
    },
    {
      'size': (41, 44),
      'shorter': 4,
      'golden': [[0, 35, 140], [67, 110, 56], [23, 75, 113]],
    },
    {
      'size': (47, 50),
      'shorter': 4,
      'golden': [[0, 108, 131], [61, 167, 189], [86, 190, 126]],
    },
  )
  def test_the_centre_is_that_of_the_references(self, size, shorter, golden):
    out = np.zeros((len(golden), len(golden), 3), np.uint8)
    decode.resize_and_crop(_pattern(*size), out, shorter)
    np.testing.assert_allclose(out[..., 0], golden, atol=1)

  def test_the_crop_is_cut_from_the_resized_image(self):
    image = _pattern(90, 121)
    out = np.zeros((50, 50, 3), np.uint8)
    decode.resize_and_crop(image, out, 60)
    whole = _exact(image, 60, 80)[5:55, 15:65]
    self.assertLess(np.abs(out - whole).max(), 0.51)


class DecodeTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.image = np.full((20, 31, 3), (200, 90, 10), np.uint8)
    self.jpeg = simplejpeg.encode_jpeg(self.image, 95, 'RGB', '444')

  def test_channels_are_red_green_blue(self):
    np.testing.assert_allclose(decode.decode(self.jpeg), self.image, atol=3)

  def test_the_header_gives_height_and_width(self):
    self.assertEqual(decode.size(self.jpeg), (20, 31))

  def test_grey_becomes_three_equal_channels(self):
    grey = simplejpeg.encode_jpeg(
      np.arange(200, dtype=np.uint8).reshape(10, 20, 1), 95, 'GRAY', 'Gray'
    )
    image = decode.decode(grey)
    self.assertEqual(image.shape, (10, 20, 3))
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    self.assertGreater(image.std(), 40)

  def test_a_file_that_ends_early_is_refused(self):
    for end in (len(self.jpeg) // 2, len(self.jpeg) - 2):
      with self.assertRaises(ValueError):
        decode.decode(self.jpeg[:end])

  def test_junk_in_a_whole_file_is_passed_over(self):
    junk = self.jpeg[:-2] + b'\0\1\2' * 5 + self.jpeg[-2:]
    np.testing.assert_array_equal(decode.decode(junk), decode.decode(self.jpeg))

  def test_what_is_no_jpeg_is_refused(self):
    for other in (b'', b'hello', b'\x89PNG\r\n\x1a\n' + b'\0' * 99):
      with self.assertRaises(ValueError):
        decode.decode(other)

  def test_a_sampling_without_a_name_is_no_obstacle(self):
    jpeg = bytearray(simplejpeg.encode_jpeg(self.image, 95, 'RGB', '444'))
    luma = restart_jpeg.header(bytes(jpeg)).frame + 6
    self.assertEqual(jpeg[luma], 0x11)
    jpeg[luma] = 0x14  # four units of light above each other for one of colour
    self.assertEqual(decode.size(bytes(jpeg)), (20, 31))


class CropTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.plain = odd_jpegs.jpeg(90, 128, restart_marker_blocks=2)
    self.marked = restart_markers.add_table(self.plain)

  @parameterized.product(
    marked=[True, False],
    mirrored=[True, False],
    box=[[0, 0, 90, 128], [31, 5, 20, 37], [89, 127, 1, 1]],
  )
  def test_it_is_resized_as_if_it_had_been_decoded_alone(
    self, marked, mirrored, box
  ):
    jpeg = self.marked if marked else self.plain
    crop = decode.decode_crop(jpeg, box)
    out = np.zeros((24, 26, 3), np.uint8)
    decode.crop_and_resize(jpeg, box, out, mirrored=mirrored)
    error = np.abs(out - _exact(crop[:, ::-1] if mirrored else crop, 24, 26))
    # To walk backwards or forwards may round differently.
    self.assertLess(error.max(), 0.52)

  @parameterized.parameters(True, False)
  def test_the_centre_is_that_of_the_whole_image(self, marked):
    jpeg = self.marked if marked else self.plain
    whole, out = np.zeros((2, 24, 26, 3), np.uint8)
    decode.resize_and_crop(decode.decode(jpeg), whole, 30)
    decode.decode_centre(jpeg, out, 30)
    # Three channels and four may round differently.
    self.assertLessEqual(np.abs(whole.astype(int) - out).max(), 1)
    self.assertLess((whole != out).mean(), 0.01)

  def test_crops_of_one_thread_do_not_share_memory(self):
    first = decode.decode_crop(self.marked, [0, 0, 40, 50])
    kept = first.copy()
    decode.decode_crop(self.marked, [40, 60, 40, 50])
    np.testing.assert_array_equal(first, kept)

  def test_threads_do_not_share_memory(self):
    boxes = [[i % 40, i % 70, 45, 50] for i in range(200)]
    whole = decode.decode(self.marked)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      crops = pool.map(lambda b: decode.decode_crop(self.marked, b), boxes)
      for (y, x, h, w), crop in zip(boxes, crops, strict=True):
        np.testing.assert_array_equal(crop, whole[y : y + h, x : x + w])

  @parameterized.parameters(
    {'box': [-1, 0, 5, 5]},
    {'box': [0, 100, 5, 29]},
    {'box': [86, 0, 5, 5]},
    {'box': [0, 0, 0, 5]},
  )
  def test_a_box_outside_of_the_image_is_refused(self, box):
    with self.assertRaisesRegex(ValueError, 'within 90 x 128'):
      decode.decode_crop(self.marked, box)

  def test_one_pixel_is_enough(self):
    jpeg = odd_jpegs.jpeg(1, 1)
    out = np.zeros((3, 3, 3), np.uint8)
    decode.crop_and_resize(jpeg, [0, 0, 1, 1], out)
    np.testing.assert_array_equal(out, np.tile(decode.decode(jpeg), (3, 3, 1)))


if __name__ == '__main__':
  absltest.main()
