"""Tests of running the pieces of a long job."""

import threading

from absl.testing import absltest

from input_pipelines.writing import work


class EachTest(absltest.TestCase):
  def test_results_come_in_the_order_of_the_items(self):
    def do(item, tick):
      tick(item)
      return item * 10

    told = []
    found = work.each(
      do, [3, 1, 2], whole=7, done=1, progress=lambda d, w: told.append((d, w))
    )
    self.assertEqual(found, [30, 10, 20])
    self.assertEqual((told[0], told[-1]), ((1, 7), (7, 7)))

  def test_no_tick_is_lost_between_threads(self):
    def do(item, tick):
      del item
      for _ in range(2000):
        tick(1)

    told = []
    work.each(
      do,
      range(8),
      whole=16000,
      threads=8,
      progress=lambda d, w: told.append(d),
    )
    self.assertEqual(told[-1], 16000)

  def test_the_first_error_ends_the_others_at_their_next_tick(self):
    both_run = threading.Barrier(2)
    ends = []

    def do(item, tick):
      both_run.wait(60)
      if item == 0:
        raise ValueError('the first')
      try:
        while True:
          tick(1)
      except work.Stopped:
        ends.append(item)
        raise

    with self.assertRaisesRegex(ValueError, 'the first'):
      work.each(do, [0, 1], whole=1, threads=2)
    self.assertEqual(ends, [1])

  def test_nothing_to_do_is_done(self):
    told = []
    found = work.each(
      lambda item, tick: item,
      [],
      whole=5,
      done=5,
      progress=lambda d, w: told.append((d, w)),
    )
    self.assertEqual((found, told), ([], [(5, 5)]))


if __name__ == '__main__':
  absltest.main()
