"""Tests of buckets and packing: shapes, epochs, rows."""

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.text import buckets, packing


def _lengths(pairs=3000, seed=0, most=40):
  rng = np.random.default_rng(seed)
  source = 1 + rng.gamma(2, 6, pairs)
  sides = np.stack([source, source + rng.normal(0, 3, pairs)], axis=1)
  return np.clip(np.rint(sides), 1, most).astype(np.int64)


def _plans(lengths, method=buckets.DISCARD, max_length=32):
  shapes = buckets.shapes(512, max_length, multiple=4)
  yield buckets.Bucketed(lengths, shapes, max_length=max_length, method=method)
  shape = buckets.Shape(16, 64, 48)
  yield packing.Packed(lengths, shape, max_length=max_length, method=method)


class ShapesTest(parameterized.TestCase):
  def test_they_are_the_references(self):
    found = buckets.shapes(4096, 256)
    ends = [shape.source + 1 for shape in found]
    self.assertEqual(ends[:16], [*range(8, 21), 22, 24, 26])
    self.assertEqual(ends[-3:], [215, 236, 257])
    self.assertEqual(found[0], buckets.Shape(512, 7, 7))
    self.assertEqual(found[-1], buckets.Shape(15, 256, 256))
    self.assertLen(found, 42)

  def test_rows_are_rounded_down_to_what_devices_can_share(self):
    for shape in buckets.shapes(4096, 256, multiple=8):
      self.assertEqual(shape.rows % 8, 0)
      self.assertLessEqual(shape.rows * shape.source, 4096)

  def test_a_short_limit_is_one_shape(self):
    found = buckets.shapes(64, 7)
    self.assertEqual(found, (buckets.Shape(8, 7, 7),))

  @parameterized.parameters(
    {'tokens': 100, 'max_length': 64, 'multiple': 2},
    {'tokens': 4096, 'max_length': 0},
    {'tokens': 4096, 'max_length': 64, 'first': 1},
    {'tokens': 4096, 'max_length': 64, 'scale': 0.9},
  )
  def test_what_makes_no_shapes_is_refused(self, **how):
    with self.assertRaisesRegex(ValueError, 'Expected'):
      buckets.shapes(**how)


class PlanTest(parameterized.TestCase):
  def test_an_epoch_has_every_pair_that_is_not_too_long_once(self):
    lengths = _lengths()
    fit = np.flatnonzero(lengths.max(axis=1) <= 32)
    self.assertLess(len(fit), len(lengths))
    for plan in _plans(lengths):
      for epoch in (0, 3):
        first = epoch * plan.steps
        members = [
          plan.group(5, step).members
          for step in range(first, first + plan.steps)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(members)), fit)

  def test_or_every_pair_where_the_long_ones_are_cut(self):
    lengths = _lengths()
    for plan in _plans(lengths, method=buckets.TRUNCATE):
      members = [plan.group(5, step).members for step in range(plan.steps)]
      self.assertLen(np.unique(np.concatenate(members)), len(lengths))

  def test_a_batch_fits_its_shape(self):
    lengths = _lengths()
    for plan in _plans(lengths):
      for step in range(plan.steps):
        group = plan.group(1, step)
        room = [group.shape.source, group.shape.target]
        self.assertIn(group.shape, plan.shapes)
        self.assertLess(group.row.max(), group.shape.rows)
        self.assertTrue((np.diff(group.row) >= 0).all())
        used = np.zeros((group.shape.rows, 2), int)
        np.add.at(used, group.row, lengths[group.members])
        self.assertTrue((used <= room).all())

  def test_a_pair_is_in_the_smallest_bucket_that_holds_it(self):
    lengths = _lengths()
    plan = next(_plans(lengths))
    ends = [shape.source for shape in plan.shapes]
    for step in range(plan.steps):
      group = plan.group(1, step)
      longest = lengths[group.members].max(axis=1)
      below = max([0, *(end for end in ends if end < group.shape.source)])
      self.assertTrue((longest > below).all())

  def test_batches_that_are_not_full_come_at_the_end(self):
    plan = next(_plans(_lengths()))
    full = [
      len(group.members) == group.shape.rows
      for group in (plan.group(2, step) for step in range(plan.steps))
    ]
    self.assertEqual(full, sorted(full, reverse=True))
    self.assertLess(full.count(False), 1 + len(plan.shapes))

  def test_epochs_and_seeds_have_orders_of_their_own(self):
    for plan in _plans(_lengths()):
      first, again, *others = (
        np.concatenate(
          [
            plan.group(seed, epoch * plan.steps + step).members
            for step in range(plan.steps)
          ]
        )
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
      )
      np.testing.assert_array_equal(first, again)
      for other in others:
        self.assertLess((first == other).mean(), 0.1)

  def test_the_number_of_steps_follows_from_the_lengths_alone(self):
    lengths = _lengths()
    for plan, again in zip(_plans(lengths), _plans(lengths), strict=True):
      plan.group(9, 3)
      self.assertEqual(plan.steps, again.steps)
    plan = next(_plans(lengths))
    fit = lengths.max(axis=1)
    expected = below = 0
    for shape in plan.shapes:
      count = ((fit > below) & (fit <= shape.source)).sum()
      expected += -(-count // shape.rows)
      below = shape.source
    self.assertEqual(plan.steps, expected)

  def test_lengths_that_leave_nothing_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'got 4 pairs that are longer'):
      list(_plans(np.full((4, 2), 33)))

  def test_an_unknown_method_is_refused(self):
    with self.assertRaisesRegex(ValueError, "got 'skip'"):
      list(_plans(_lengths(), method='skip'))

  def test_buckets_hold_the_longest(self):
    with self.assertRaisesRegex(ValueError, 'a shape of 40 tokens, got 32'):
      buckets.Bucketed(_lengths(), buckets.shapes(512, 32), max_length=40)


class FullTest(parameterized.TestCase):
  @parameterized.parameters(
    (50, [9, 19, 29, 39, 50]),
    (75, [14, 29, 44, 59, 75]),
    (48, [9, 19, 29, 39, 48]),
    (51, [10, 21, 32, 43, 51]),
    (6, [1, 3, 5, 6]),
  )
  def test_buckets_of_equal_width_are_those_of_the_reference(self, most, ends):
    shapes = buckets.equal_shapes(8, most, count=5)
    self.assertEqual([shape.source for shape in shapes], ends)
    self.assertEqual({shape.rows for shape in shapes}, {8})
    # As BucketingSampler of mlcommons/training, retired_benchmarks/gnmt, does.
    width = (most + 4) // 5
    for length in range(1, most + 1):
      bucket = min(length // width, 4)
      self.assertLessEqual(length, ends[min(bucket, len(ends) - 1)])
      self.assertGreater(length, ([0, *ends])[min(bucket, len(ends) - 1)])

  def test_every_batch_is_full_and_of_one_bucket(self):
    lengths = np.random.default_rng(0).integers(1, 55, (1000, 2))
    shapes = buckets.equal_shapes(16, 50, count=5)
    plan = buckets.Full(lengths, shapes, max_length=50)
    longest = lengths.max(axis=1)
    counts = np.histogram(longest, [0, 10, 20, 30, 40, 50.5])[0]
    self.assertEqual(plan.steps, (counts // 16).sum())
    self.assertEqual(plan.pairs, 16 * plan.steps)
    orders = []
    for epoch in range(2):
      seen, order = [], []
      for step in range(epoch * plan.steps, (epoch + 1) * plan.steps):
        group = plan.group(3, step)
        self.assertLen(group.members, 16)
        at = [s.source for s in shapes].index(group.shape.source)
        low = shapes[at - 1].source if at else 0
        self.assertBetween(longest[group.members].min(), low + 1, 50)
        self.assertLessEqual(longest[group.members].max(), group.shape.source)
        seen += group.members.tolist()
        order.append(group.shape.source)
      self.assertLen({*seen}, plan.pairs)
      self.assertNotEqual(order, sorted(order))
      orders.append((order, sorted(seen)))
    # The next epoch has another order, and leaves out other pairs.
    self.assertNotEqual(orders[0][0], orders[1][0])
    self.assertNotEqual(orders[0][1], orders[1][1])

  def test_pairs_that_fill_no_batch_are_refused(self):
    shapes = buckets.equal_shapes(16, 50, count=5)
    with self.assertRaisesRegex(ValueError, 'a batch of 16 .*, got 9'):
      buckets.Full(np.full((9, 2), 5), shapes, max_length=50)


class PackTest(absltest.TestCase):
  def test_rows_are_nearly_full(self):
    lengths = _lengths(20_000)
    rows = packing.pack(np.arange(len(lengths)), lengths, (256, 256))
    used = np.add.reduceat(lengths[rows.members], np.r_[0, rows.ends[:-1]])
    self.assertLessEqual(used.max(), 256)
    self.assertGreater(used.max(axis=1).mean() / 256, 0.98)

  def test_first_fit_by_hand(self):
    lengths = np.array([[5, 5], [4, 1], [3, 6], [2, 2], [6, 4]])
    rows = packing.pack(np.arange(10, 15), lengths, (8, 8))
    # Longest first: 12 and 14 (6), 10 (5), 11 (4), 13 (2). 14 does not fit to
    # 12; 10 to neither; 11 to 12 (3 + 4, 6 + 1); 13 to 14 (6 + 2, 4 + 2).
    split = np.split(rows.members, rows.ends[:-1])
    self.assertCountEqual(
      [sorted(each.tolist()) for each in split], [[11, 12], [13, 14], [10]]
    )

  def test_the_last_window_may_be_short(self):
    lengths = _lengths(1000)
    for window in (1, 7, 300, 5000):
      rows = packing.pack(np.arange(1000), lengths, (64, 64), window=window)
      self.assertLen(np.unique(rows.members), 1000)
      self.assertEqual(rows.ends[-1], 1000)

  def test_a_side_that_is_longer_than_a_row_is_refused(self):
    with self.assertRaisesRegex(
      ValueError, r'sides of \(8, 9\).*got \(8, 10\)'
    ):
      packing.pack(np.arange(1), np.array([[8, 10]]), (8, 9))


if __name__ == '__main__':
  absltest.main()
