import collections
import itertools

from absl.testing import absltest, parameterized
import numpy as np

from launch.speeds import pace
from suite.run import loop


class Machine:
  """A device and a host whose times are given: it shows what was measured."""

  def __init__(self, times, host=0.0):
    self.now = 0.0
    self.free = 0.0  # when the device has done all that was dispatched
    self.host = host
    self.dispatched = 0
    self.most_under_way = 0
    self._under_way = collections.deque()
    self._times = iter(times)

  def dispatch(self):
    self.now += self.host
    self.dispatched += 1
    self.free = max(self.free, self.now) + next(self._times)
    self._under_way.append(self.free)
    self.most_under_way = max(self.most_under_way, len(self._under_way))
    return self.free

  def wait(self, end):
    self._under_way.popleft()
    self.now = max(self.now, end)

  def measured(self, **how):
    timers = pace.Timers(lambda: self.now, lambda: 2 * self.now)
    how.setdefault('seconds', 10.0)
    return pace.measure(self.dispatch, self.wait, timers=timers, **how)


def _noise(scale, low=0.01):
  generator = np.random.default_rng(0)
  return (low + scale * generator.random() for _ in itertools.count())


class MeasureTest(parameterized.TestCase):
  def test_the_time_of_a_step_is_that_of_the_device_while_the_host_is_faster(
    self,
  ):
    found = Machine(itertools.repeat(0.01), host=0.004).measured()
    self.assertAlmostEqual(found.median, 0.01)
    self.assertAlmostEqual(found.mean, 0.01)
    self.assertAlmostEqual(found.host, 0.004)
    self.assertAlmostEqual(found.processor, 0.02)

  def test_it_is_that_of_the_host_where_the_host_is_slower(self):
    found = Machine(itertools.repeat(0.01), host=0.03).measured()
    self.assertAlmostEqual(found.median, 0.03)

  def test_steps_are_dispatched_as_far_ahead_as_in_a_run(self):
    machine = Machine(itertools.repeat(0.01))
    machine.measured()
    self.assertEqual(machine.most_under_way, loop.IN_FLIGHT + 1)
    self.assertEqual(pace.IN_FLIGHT, loop.IN_FLIGHT)

  def test_it_ends_when_the_median_is_precise(self):
    found = Machine(itertools.repeat(0.01)).measured(seconds=1000.0)
    self.assertTrue(found.is_precise)
    self.assertLess(found.steps * found.median, 300.0)

  def test_it_ends_when_the_time_is_over_though_nothing_is_precise(self):
    machine = Machine(_noise(0.1))
    found = machine.measured(seconds=10.0)
    self.assertFalse(found.is_precise)
    self.assertBetween(machine.now, 10.0, 12.0)

  def test_steps_of_a_device_that_warms_up_do_not_count(self):
    times = (max(0.01, 0.05 * 0.995**i) for i in itertools.count())
    found = Machine(times).measured(seconds=100.0)
    self.assertTrue(found.steady)
    self.assertLess(found.slowest, 0.0105)

  def test_a_device_that_becomes_slower_for_ever_is_not_steady(self):
    times = (0.01 * 1.01**i for i in itertools.count())
    self.assertFalse(Machine(times).measured().steady)

  def test_a_few_slow_steps_are_told_and_leave_the_median(self):
    times = (1.0 if i % 50 == 49 else 0.01 for i in itertools.count())
    found = Machine(times).measured(seconds=30.0)
    self.assertAlmostEqual(found.median, 0.01)
    self.assertAlmostEqual(found.slowest, 1.0)
    self.assertGreater(found.mean, 0.02)

  def test_a_step_longer_than_the_time_given_is_measured(self):
    machine = Machine(itertools.repeat(60.0))
    found = machine.measured(seconds=10.0)
    self.assertEqual(machine.dispatched, 1)
    self.assertAlmostEqual(found.median, 60.0)
    self.assertIsNone(found.interval)

  def test_slow_steps_are_dispatched_one_by_one(self):
    machine = Machine(itertools.repeat(3.0), host=0.5)
    found = machine.measured()
    self.assertEqual(machine.most_under_way, 1)
    self.assertLess(machine.dispatched, 6)
    self.assertAlmostEqual(found.median, 3.5)

  def test_hosts_that_must_agree_dispatch_as_many_steps(self):
    counts = []
    for host in (0.001, 0.002):
      machine = Machine(itertools.repeat(0.01), host=host)
      machine.measured(agree=lambda number: 50 if number > 1 else number)
      counts.append(machine.dispatched)
    self.assertEqual(*counts)

  def test_what_happens_between_rounds_of_short_steps_does_not_count(self):
    machine = Machine(itertools.repeat(0.01))

    def agree(number):
      machine.now = max(machine.free, machine.now) + 5.0
      return number

    found = machine.measured(agree=agree, seconds=200.0)
    self.assertAlmostEqual(found.mean, 0.01)
    self.assertAlmostEqual(found.slowest, 0.01)


class IntervalTest(parameterized.TestCase):
  def test_few_times_have_no_interval(self):
    self.assertIsNone(pace.interval([1.0] * 5))

  def test_it_holds_the_true_median_in_about_95_of_100_tries(self):
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
      low, high = pace.interval(generator.exponential(size=60).tolist())
      held += low <= np.log(2) <= high
    self.assertBetween(held, 930, 985)

  def test_more_times_make_it_narrower(self):
    generator = np.random.default_rng(0)
    widths = [
      np.ptp(pace.interval(generator.random(count).tolist()))
      for count in (20, 200, 2000)
    ]
    self.assertGreater(widths[0], 2 * widths[1])
    self.assertGreater(widths[1], 2 * widths[2])

  def test_the_spread_is_that_between_parts_of_a_measurement(self):
    steps = [
      pace.Step(seconds, 0.0, 0.0) for seconds in [1.0] * 40 + [1.1] * 10
    ]
    self.assertAlmostEqual(pace.summary(steps).spread, 0.1)


if __name__ == '__main__':
  absltest.main()
