"""Tests of what a person sees of a long job."""

import io
from unittest import mock

from absl.testing import absltest, parameterized

from launch.support import stages


class _Terminal(io.StringIO):
  def isatty(self):
    return True


class StageTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.now = 1000.0
    self.enterContext(mock.patch('time.monotonic', lambda: self.now))

  def test_a_file_gets_a_line_now_and_then_with_rate_and_time_left(self):
    out = io.StringIO()
    stage = stages.Stage('Writing', 'images', out)
    stage(100, 1100)
    for _ in range(50):
      self.now += 1
      stage(int(100 + 10 * (self.now - 1000)), 1100)
    self.assertEqual(
      out.getvalue(),
      'Writing: 400 images of 1,100 images, 10 images/s, 1 min 10.0 s left\n',
    )

  def test_what_was_done_before_does_not_count_to_the_rate(self):
    out = io.StringIO()
    stage = stages.Stage('Reading', 'bytes', out)
    stage(9_000_000, 10_000_000)
    self.now += 10
    stage(10_000_000, 10_000_000)
    self.assertEqual(
      out.getvalue(), 'Reading: 10.0 MB of 10.0 MB, 100.0 kB/s, in 10.0 s\n'
    )

  def test_the_end_is_told_once(self):
    out = io.StringIO()
    stage = stages.Stage('Reading', 'images', out)
    for _ in range(3):
      stage(5, 5)
    self.assertEqual(out.getvalue().count('\n'), 1)

  def test_a_terminal_has_one_line_that_is_redrawn(self):
    out = _Terminal()
    stage = stages.Stage('Writing', 'images', out)
    for done in (0, 10, 20):
      self.now += 1
      stage(done, 20)
    self.assertEqual(out.getvalue().count('\n'), 1)
    self.assertGreaterEqual(out.getvalue().count('\r'), 3)

  @parameterized.parameters(
    (1_281_167, 'images', '1,281,167 images'),
    (154_600_000_000, 'bytes', '154.6 GB'),
    (512, 'bytes', '512 bytes'),
  )
  def test_amounts_are_for_people(self, number, unit, text):
    self.assertEqual(stages.amount(number, unit), text)


if __name__ == '__main__':
  absltest.main()
