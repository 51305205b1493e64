"""Tests of the clock."""

from absl.testing import absltest

from suite.clock import Clock, time_to_quality, wall_time


class Hand:
  """A clock hand that the test moves."""

  def __init__(self):
    self.seconds = 1000.0

  def __call__(self):
    return self.seconds


class ClockTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.hand = Hand()
    self.clock = Clock(self.hand)

  def spend(self, part, seconds):
    with self.clock.spent_on(part):
      self.hand.seconds += seconds

  def test_parts_of_startup_and_of_the_run_add_up_to_the_whole(self):
    self.spend('compile', 5)
    self.hand.seconds += 1
    self.clock.start()
    self.spend('compute', 10)
    self.spend('eval', 2)
    self.spend('compute', 10)
    self.hand.seconds += 3
    self.clock.stop()
    self.hand.seconds += 100
    self.assertEqual(self.clock.startup_parts(), {'compile': 5, 'other': 1})
    self.assertEqual(self.clock.startup, 6)
    self.assertEqual(
      self.clock.timed_parts(), {'compute': 20, 'eval': 2, 'other': 3}
    )
    self.assertEqual(self.clock.timed, 25)

  def test_startup_within_its_allowance_is_free_and_the_excess_counts(self):
    self.assertEqual(time_to_quality(60.0, 1800.0, 1800.0), 60.0)
    self.assertEqual(time_to_quality(60.0, 1801.5, 1800.0), 61.5)

  def test_it_starts_once_and_stops_once(self):
    with self.assertRaisesRegex(RuntimeError, 'before run_start'):
      self.clock.stop()
    self.clock.start()
    with self.assertRaisesRegex(RuntimeError, 'starts once'):
      self.clock.start()
    self.clock.stop()
    with self.assertRaisesRegex(RuntimeError, 'after run_stop'):
      self.clock.stop()
    with self.assertRaisesRegex(RuntimeError, 'starts once'):
      self.clock.start()

  def test_there_is_no_way_to_pause_it(self):
    public = {name for name in dir(Clock) if not name.startswith('_')}
    self.assertEqual(
      public,
      {
        'require_running', 'running', 'spent_on', 'start', 'startup',
        'startup_parts', 'stop', 'time_to_quality', 'timed', 'timed_parts',
      },
    )  # fmt: skip

  def test_parts_do_not_nest_so_no_second_counts_twice(self):
    with (
      self.assertRaisesRegex(RuntimeError, 'nest'),
      self.clock.spent_on('eval'),
    ):
      self.spend('input', 1)

  def test_an_error_inside_a_part_still_books_its_time(self):
    with self.assertRaises(KeyError), self.clock.spent_on('compile'):
      self.hand.seconds += 7
      raise KeyError
    self.assertEqual(self.clock.startup_parts()['compile'], 7)

  def test_wall_time_does_not_run_backwards(self):
    now = wall_time()
    times = [now() for _ in range(1000)]
    self.assertEqual(times, sorted(times))


if __name__ == '__main__':
  absltest.main()
