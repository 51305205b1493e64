"""Tests that restart markers change nothing but how a JPEG is coded."""

import io
import os
import shutil
from unittest import mock

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image

from input_pipelines.images import decode, restart_jpeg, restart_markers
from tests.input_pipelines.images import odd_jpegs

_has_jpegtran = absltest.skipUnless(
  shutil.which('jpegtran'), 'there is no jpegtran (libjpeg-turbo-progs)'
)
_few = settings(max_examples=25, deadline=None, derandomize=True)


def _tables(jpeg):
  """Quantisation tables, and id, sampling and table of each component."""
  image = Image.open(io.BytesIO(jpeg))
  # Sampling is that of colour against light: it says nothing of grey alone.
  return image.quantization, image.layer if image.layers > 1 else None


def _has_table(jpeg):
  return restart_jpeg.header(jpeg).table.stop > 0


@_has_jpegtran
class TranscodeTest(parameterized.TestCase):
  @_few
  @given(st.data())
  def test_nothing_that_is_decoded_changes(self, data):
    jpeg = data.draw(odd_jpegs.jpegs())
    marked = restart_markers.transcode(jpeg)
    self.assertTrue(_has_table(marked))
    self.assertEqual(_tables(marked), _tables(jpeg))
    np.testing.assert_array_equal(decode.decode(marked), decode.decode(jpeg))
    y, x, h, w = box = data.draw(odd_jpegs.boxes(decode.size(jpeg)))
    np.testing.assert_array_equal(
      decode.decode_crop(marked, box),
      decode.decode(jpeg)[y : y + h, x : x + w],
    )

  @parameterized.parameters('L', 'RGB')
  def test_a_small_crop_is_a_small_part_of_the_file(self, mode):
    marked = restart_markers.transcode(odd_jpegs.jpeg(320, 384, mode=mode))
    head = restart_jpeg.header(marked)
    part = restart_jpeg.cut(marked, head, [100, 100, 40, 40])
    self.assertLess(len(part.jpeg), len(marked) / 8)

  def test_a_second_time_changes_nothing(self):
    once = restart_markers.transcode(odd_jpegs.jpeg(90, 140))
    self.assertEqual(restart_markers.transcode(once), once)

  def test_another_decoder_sees_the_same_image(self):
    jpeg = odd_jpegs.jpeg(90, 140, subsampling=2, progressive=True)
    ours, theirs = (
      np.asarray(Image.open(io.BytesIO(data)))
      for data in (jpeg, restart_markers.transcode(jpeg))
    )
    np.testing.assert_array_equal(ours, theirs)

  def test_junk_is_kept_with_the_rest(self):
    jpeg = odd_jpegs.jpeg(50, 60)
    jpeg = jpeg[:-2] + b'junk' + jpeg[-2:]
    self.assertEqual(restart_markers.transcode(jpeg), jpeg)

  def test_cmyk_is_returned_as_it_came(self):
    jpeg = odd_jpegs.jpeg(50, 60, mode='CMYK')
    self.assertEqual(restart_markers.transcode(jpeg), jpeg)

  def test_a_progressive_file_that_lacks_scans_is_returned_as_it_came(self):
    jpeg = odd_jpegs.jpeg(50, 60, progressive=True)
    scans = [i for i in range(len(jpeg)) if jpeg[i : i + 2] == b'\xff\xda']
    short = jpeg[: scans[1]] + b'\xff\xd9'
    self.assertEqual(decode.decode(short).shape, (50, 60, 3))
    self.assertEqual(restart_markers.transcode(short), short)

  def test_what_is_broken_is_an_error(self):
    jpeg = odd_jpegs.jpeg(50, 60)
    for broken in (jpeg[: len(jpeg) // 2], jpeg[:-1], b'', b'GIF89a'):
      with self.assertRaises(ValueError):
        restart_markers.transcode(broken)

  def test_a_changed_coefficient_is_noticed(self):
    real = restart_markers._jpegtran

    def careless(jpeg, *arguments):
      if '-restart' in arguments:
        jpeg = odd_jpegs.jpeg(50, 60, seed=1)
      return real(jpeg, *arguments)

    with (
      mock.patch.object(restart_markers, '_jpegtran', careless),
      self.assertRaisesRegex(RuntimeError, 'coefficients.*50 x 60'),
    ):
      restart_markers.transcode(odd_jpegs.jpeg(50, 60))

  def test_a_changed_quantisation_table_is_noticed(self):
    real = restart_markers._jpegtran

    def careless(jpeg, *arguments):
      jpeg = bytearray(real(jpeg, *arguments))
      if '-restart' in arguments:
        jpeg[jpeg.index(b'\xff\xdb') + 5 + 63] += 1
      return bytes(jpeg)

    with (
      mock.patch.object(restart_markers, '_jpegtran', careless),
      self.assertRaisesRegex(RuntimeError, 'coefficients'),
    ):
      restart_markers.transcode(odd_jpegs.jpeg(50, 60))


class WithoutJpegtranTest(parameterized.TestCase):
  def test_the_missing_program_is_named_with_its_package(self):
    with (
      mock.patch.dict(os.environ, {'PATH': ''}),
      self.assertRaisesRegex(FileNotFoundError, 'jpegtran.*libjpeg-turbo'),
    ):
      restart_markers.transcode(odd_jpegs.jpeg(20, 20))

  @parameterized.parameters(
    {'size': (375, 500), 'unit': 16, 'interval': 4},  # 32 units
    {'size': (375, 500), 'unit': 8, 'interval': 3},  # 63
    {'size': (375, 490), 'unit': 16, 'interval': 1},  # 31, a prime
    {'size': (1, 1), 'unit': 8, 'interval': 1},
    {'size': (10_000, 10_000), 'unit': 8, 'interval': 50},  # no room for 10
  )
  def test_segments_are_short_if_the_table_has_room(self, size, unit, interval):
    head = restart_jpeg.header(odd_jpegs.jpeg(8, 8))
    head.height, head.width = size
    head.unit_height = head.unit_width = unit
    self.assertEqual(restart_markers._interval(head), interval)

  def test_the_table_follows_what_readers_expect_first(self):
    marked = restart_markers.add_table(
      odd_jpegs.jpeg(20, 40, restart_marker_blocks=1)
    )
    self.assertEqual(marked[2:4], b'\xff\xe0')
    self.assertEqual(restart_jpeg.header(marked).table.start, 20)

  def test_what_cannot_be_cut_gets_no_table(self):
    for how in ({'progressive': True}, {'mode': 'CMYK'}):
      self.assertIsNone(restart_markers.add_table(odd_jpegs.jpeg(9, 9, **how)))

  def test_a_segment_too_long_for_the_table_gets_none(self):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, 'JPEG', quality=100)
    self.assertIsNone(restart_markers.add_table(file.getvalue()))


if __name__ == '__main__':
  absltest.main()
