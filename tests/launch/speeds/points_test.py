from unittest import mock

from absl.testing import absltest, parameterized

from launch.speeds import points
from suite.results import speed

_ABOUT = {'benchmark': 'resnet', 'size': 'tiny', 'label': ''}


def _measured(*spots, limit=60.0):
  with mock.patch.object(points, 'MODULE', 'tests.launch.speeds.stand_in'):
    return [*points.measured(spots, limit)]


def _spot(*arguments, **more):
  return points.Spot(_ABOUT, arguments, **more)


class PointsTest(parameterized.TestCase):
  def test_a_point_that_fails_is_a_row_and_the_next_one_is_measured(self):
    refused, fine = _measured(_spot('refused'), _spot('fine'))
    self.assertEqual(refused, {**_ABOUT, 'failed': 'Unknown size'})
    self.assertEqual(fine['failed'], '')
    self.assertIsNotNone(speed.summary(fine))

  def test_one_that_takes_too_long_is_ended(self):
    (late,) = _measured(_spot('sleeps'), limit=1.0)
    self.assertRegex(late['failed'], 'ended after 1 s')

  def test_one_without_enough_memory_says_so(self):
    (full,) = _measured(_spot('memory'))
    self.assertEqual(
      full['failed'], 'out of memory: error: RESOURCE_EXHAUSTED: 9 of 8 GiB'
    )

  def test_its_batch_is_halved_until_it_fits_where_that_is_asked(self):
    smaller = [['--hp=batch=16'], ['--hp=batch=8'], ['--hp=batch=4']]
    (fits,) = _measured(_spot('memory', smaller=smaller))
    self.assertEqual(fits['failed'], '')
    (full,) = _measured(_spot('memory', smaller=smaller[:1]))
    self.assertStartsWith(full['failed'], points.OUT_OF_MEMORY)

  @parameterized.parameters(
    ('', 'it ended and said nothing'),
    ('a\nerror: the last word\n\n', 'the last word'),
    ('std::bad_alloc\nAborted', 'out of memory: std::bad_alloc'),
  )
  def test_the_reason_is_the_last_line_or_that_of_memory(self, said, reason):
    self.assertEqual(points.why(said), reason)


if __name__ == '__main__':
  absltest.main()
