"""Tests that a crop cut out of a JPEG is the crop of the decoded JPEG."""

import struct

from absl.testing import absltest, parameterized
from hypothesis import assume, given, settings
from hypothesis import strategies as st
import numpy as np
import simplejpeg

from input_pipelines.images import decode, restart_jpeg, restart_markers
from tests.input_pipelines.images import odd_jpegs

_quick = settings(max_examples=80, deadline=None, derandomize=True)


def _marked(height=70, width=128, **how):
  """A JPEG with restart markers every two units and their table."""
  jpeg = odd_jpegs.jpeg(height, width, restart_marker_blocks=2, **how)
  return restart_markers.add_table(jpeg)


def _crop(jpeg, box):
  y, x, h, w = box
  return decode.decode(jpeg)[y : y + h, x : x + w]


def _cut(jpeg, box):
  return restart_jpeg.cut(jpeg, restart_jpeg.header(jpeg), box)


class CropTest(parameterized.TestCase):
  @_quick
  @given(st.data())
  def test_a_crop_has_the_pixels_of_the_whole(self, data):
    jpeg = data.draw(odd_jpegs.jpegs())
    if data.draw(st.booleans()):
      jpeg = restart_markers.add_table(jpeg) or jpeg
    box = data.draw(odd_jpegs.boxes(decode.size(jpeg)))
    np.testing.assert_array_equal(
      decode.decode_crop(jpeg, box), _crop(jpeg, box)
    )

  @parameterized.product(
    mode=['L', 'RGB'], subsampling=[0, 1, 2], first=[30, 31, 32, 33, 34]
  )
  def test_pixels_beside_a_boundary_are_those_of_the_whole(
    self, mode, subsampling, first
  ):
    jpeg = _marked(mode=mode, subsampling=subsampling)
    for box in ([first, first, 1, 1], [first - 16, first, 16, 30]):
      self.assertLess(_cut(jpeg, box).width, 128)
      np.testing.assert_array_equal(
        decode.decode_crop(jpeg, box), _crop(jpeg, box)
      )

  @_quick
  @given(st.data())
  def test_a_table_that_lies_changes_no_pixel(self, data):
    jpeg = bytearray(_marked(seed=1))
    table = restart_jpeg.header(bytes(jpeg)).table
    first = table.start + 4 + len(restart_jpeg.TAG)
    for _ in range(data.draw(st.integers(1, 3))):
      at = data.draw(st.integers(first, table.stop - 1))
      jpeg[at] = data.draw(st.integers(0, 255))
    box = data.draw(odd_jpegs.boxes((70, 128)))
    jpeg = bytes(jpeg)
    np.testing.assert_array_equal(
      decode.decode_crop(jpeg, box), _crop(jpeg, box)
    )

  @parameterized.parameters(
    {'sizes': []},
    {'sizes': [65535] * 20},
    {'sizes': [0] * 20},
    {'sizes': [40000, 25536] * 10},  # in 16 bits their sum is 0
  )
  def test_a_table_of_another_file_changes_no_pixel(self, sizes):
    jpeg = _marked(seed=2)
    table = restart_jpeg.header(jpeg).table
    payload = restart_jpeg.TAG + struct.pack(f'>{len(sizes)}H', *sizes)
    other = b'\xff\xe9' + struct.pack('>H', 2 + len(payload)) + payload
    jpeg = jpeg[: table.start] + other + jpeg[table.stop :]
    box = [20, 30, 25, 60]
    np.testing.assert_array_equal(
      decode.decode_crop(jpeg, box), _crop(jpeg, box)
    )

  def test_two_segments_taken_for_one_change_no_pixel(self):
    jpeg = bytearray(_marked(seed=3))
    table = restart_jpeg.header(bytes(jpeg)).table
    first = table.start + 4 + len(restart_jpeg.TAG)
    sizes = np.frombuffer(jpeg, '>u2', (table.stop - first) // 2, first)
    sizes[3] += sizes[4]  # the sum stays
    sizes[4] = 0
    del sizes
    box = [40, 60, 20, 50]
    jpeg = bytes(jpeg)
    self.assertEqual(_cut(jpeg, box).width, 128)  # the table is passed over
    np.testing.assert_array_equal(
      decode.decode_crop(jpeg, box), _crop(jpeg, box)
    )

  @_quick
  @given(st.data())
  def test_damage_gives_an_error_or_the_pixels_of_the_whole(self, data):
    jpeg = data.draw(odd_jpegs.jpegs(50))
    if data.draw(st.booleans()):
      jpeg = restart_markers.add_table(jpeg) or jpeg
    box = data.draw(odd_jpegs.boxes(decode.size(jpeg)))
    damaged = bytearray(jpeg)
    for _ in range(data.draw(st.integers(1, 3))):
      at = data.draw(st.integers(0, len(jpeg) - 1))
      damaged[at] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged)
    try:
      crop = decode.decode_crop(damaged, box)
    except ValueError:
      return
    try:
      expected = _crop(damaged, box)
    except ValueError:  # of what lies outside of the crop
      expected = np.zeros((*box[2:], 3))
      self.assertEqual(crop.shape, expected.shape)
    else:
      np.testing.assert_array_equal(crop, expected)

  @_quick
  @given(st.data())
  def test_a_file_that_ends_early_is_an_error(self, data):
    jpeg = data.draw(odd_jpegs.jpegs(50))
    if data.draw(st.booleans()):
      jpeg = restart_markers.add_table(jpeg) or jpeg
    box = data.draw(odd_jpegs.boxes(decode.size(jpeg)))
    end = data.draw(st.integers(0, len(jpeg) - 1))
    with self.assertRaises(ValueError):
      decode.decode_crop(jpeg[:end], box)

  @_quick
  @given(st.binary(max_size=60))
  def test_bytes_behind_the_end_do_not_matter(self, junk):
    for jpeg in (_marked(), odd_jpegs.jpeg(40, 60)):
      box = [20, 30, 10, 20]
      assume(not junk.startswith(b'\xff\xd9'))
      np.testing.assert_array_equal(
        decode.decode_crop(jpeg + junk, box), _crop(jpeg, box)
      )

  @_quick
  @given(st.binary(max_size=200))
  def test_what_is_no_jpeg_is_an_error(self, data):
    for start in (b'', b'\xff\xd8', b'\xff\xd8\xff'):
      with self.assertRaises(ValueError):
        decode.decode_crop(start + data, [0, 0, 1, 1])

  @parameterized.parameters(b'', b'junk')
  def test_cmyk_is_decoded_as_a_whole(self, junk):
    jpeg = odd_jpegs.jpeg(30, 40, mode='CMYK')
    jpeg = jpeg[:-2] + junk + jpeg[-2:]
    box = [10, 5, 8, 9]
    decode.decode_crop(odd_jpegs.jpeg(30, 40, seed=1), box)  # not seen again
    np.testing.assert_array_equal(
      decode.decode_crop(jpeg, box), _crop(jpeg, box)
    )


class CutTest(parameterized.TestCase):
  def test_only_the_segments_under_the_crop_are_left(self):
    part = _cut(_marked(160, 320, subsampling=2), [70, 130, 20, 20])
    # Units are 16 pixels, segments 32; the margin reaches into no other.
    self.assertEqual((part.y, part.x), (64, 128))
    self.assertEqual((part.height, part.width), (32, 32))

  @_quick
  @given(odd_jpegs.boxes((70, 128)))
  def test_what_is_left_is_a_jpeg_without_fault(self, box):
    part = _cut(_marked(), box)
    image = simplejpeg.decode_jpeg(part.jpeg, strict=True)
    self.assertEqual(image.shape, (part.height, part.width, 3))

  def test_without_a_table_nothing_below_the_crop_is_left(self):
    part = _cut(odd_jpegs.jpeg(160, 320), [70, 130, 20, 20])
    self.assertEqual((part.y, part.x), (0, 0))
    self.assertEqual((part.height, part.width), (92, 320))

  @parameterized.parameters('progressive', 'cmyk')
  def test_what_cannot_be_cut_is_whole(self, kind):
    how = {'progressive': True} if kind == 'progressive' else {'mode': 'CMYK'}
    jpeg = odd_jpegs.jpeg(60, 70, **how)
    self.assertIs(_cut(jpeg, [0, 0, 10, 10]).jpeg, jpeg)

  def test_a_row_that_segments_do_not_fill_is_not_cut_across(self):
    jpeg = odd_jpegs.jpeg(60, 104, restart_marker_blocks=2, subsampling=0)
    part = _cut(restart_markers.add_table(jpeg), [0, 0, 10, 10])
    self.assertEqual(part.width, 104)  # 13 units

  def test_a_large_image_costs_no_more_than_its_crop(self):
    height = width = 10_000  # 100 megapixels
    jpeg = odd_jpegs.flat(height, width)
    part = _cut(restart_markers.add_table(jpeg), [9000, 9000, 30, 40])
    self.assertLess(part.height * part.width, 100_000)
    crop = decode.decode_crop(part.jpeg, [0, 0, 30, 40])
    np.testing.assert_array_equal(crop, np.full((30, 40, 3), odd_jpegs.GREY))


class HeaderTest(parameterized.TestCase):
  @_quick
  @given(odd_jpegs.jpegs())
  def test_it_says_what_the_decoder_finds(self, jpeg):
    head = restart_jpeg.header(jpeg)
    self.assertEqual((head.height, head.width), decode.decode(jpeg).shape[:2])

  @parameterized.parameters(decode.size, decode.decode)
  def test_more_pixels_than_memory_may_hold_are_refused(self, function):
    jpeg = _claiming(65535, 65535)
    with self.assertRaisesRegex(ValueError, '134217728 pixels.*65535 x 65535'):
      function(jpeg)

  def test_a_crop_of_more_pixels_than_memory_may_hold_is_refused(self):
    with self.assertRaisesRegex(ValueError, '134217728 pixels.*65535 x 65535'):
      decode.decode_crop(_claiming(65535, 65535), [0, 0, 1, 1])

  @parameterized.parameters((0, 10), (10, 0))
  def test_no_pixels_are_an_error(self, height, width):
    with self.assertRaisesRegex(ValueError, 'with pixels'):
      decode.size(_claiming(height, width))

  def test_an_end_within_the_header_is_an_error(self):
    jpeg = odd_jpegs.jpeg(10, 10)
    for end in range(2, jpeg.index(b'\xff\xda')):
      with self.assertRaisesRegex(ValueError, 'end within its header'):
        restart_jpeg.header(jpeg[:end])


def _claiming(height, width):
  """A JPEG whose header claims another size than it has."""
  jpeg = bytearray(odd_jpegs.jpeg(10, 10))
  struct.pack_into(
    '>HH', jpeg, restart_jpeg.header(bytes(jpeg)).frame, height, width
  )
  return bytes(jpeg)


if __name__ == '__main__':
  absltest.main()
