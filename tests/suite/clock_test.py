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
        'moment', 'require_running', 'resume', 'running', 'spent_on', 'start',
        'started', 'startup', 'startup_parts', 'stop', 'time_to_quality',
        'timed', 'timed_parts',
      },
    )  # fmt: skip

  def test_what_a_part_takes_inside_another_counts_once(self):
    self.clock.start()
    with self.clock.spent_on('input'):
      self.hand.seconds += 2
      self.spend('self-play', 5)
      self.hand.seconds += 3
    self.clock.stop()
    self.assertEqual(
      self.clock.timed_parts(), {'self-play': 5, 'input': 5, 'other': 0}
    )

  def test_a_restart_goes_on_as_if_the_clock_had_never_stood_still(self):
    self.spend('compile', 5)
    self.clock.start()
    self.spend('compute', 10)
    moment = self.clock.moment()
    self.spend('compute', 4)  # lost with the process
    self.hand.seconds += 100
    after = Clock(self.hand)
    with after.spent_on('compile'):
      self.hand.seconds += 6
    self.assertEqual(after.resume(moment), 110)
    with after.spent_on('compute'):
      self.hand.seconds += 1
    after.stop()
    self.assertEqual(after.timed, 121)
    self.assertEqual(
      after.timed_parts(), {'compute': 11, 'restart': 110, 'other': 0}
    )
    self.assertEqual(after.startup_parts(), {'compile': 5, 'other': 0})

  def test_a_second_restart_adds_to_the_first(self):
    self.clock.start()
    after = Clock(self.hand)
    self.hand.seconds += 3
    after.resume(self.clock.moment())
    self.hand.seconds += 2
    moment = after.moment()
    self.hand.seconds += 5
    again = Clock(self.hand)
    again.resume(moment)
    self.assertEqual(again.timed_parts(), {'restart': 5, 'other': 5})

  def test_a_clock_that_was_set_back_cannot_go_on(self):
    self.clock.start()
    moment = self.clock.moment()
    self.hand.seconds -= 2
    with self.assertRaisesRegex(ValueError, 'one 2.0 s before it'):
      Clock(self.hand).resume(moment)

  def test_a_clock_that_runs_does_not_go_on_from_elsewhere(self):
    self.clock.start()
    with self.assertRaisesRegex(RuntimeError, 'starts once'):
      self.clock.resume(self.clock.moment())

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
