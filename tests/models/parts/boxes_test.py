"""Tests of the geometry of boxes: overlaps, coders, suppression."""

import functools
import math
import zlib

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.parts import boxes
from tests import quick

# CRC-32 of what `Encoder.decode_single` of the reference (mlcommons/training,
# retired_benchmarks/ssd-v1/ssd/utils.py) keeps of the first half of `_lists`.
# Of boxes without area it loses some, for which 0 / 0 is not below a threshold.
_KEPT_BY_REFERENCE = 1348626376
_LISTS, _MOST = 240, 24


def _lists():
  """Boxes on a coarse grid, so that overlaps tie and arithmetic is exact.

  Some have no area, some are the same as others. Corners [C, N, 4] and valid
  [C, N], the first ones of each list.
  """
  rng = np.random.default_rng(11)
  low = rng.integers(0, 6, (_LISTS, _MOST, 2))
  size = rng.integers(0, 5, (_LISTS, _MOST, 2))
  size[: _LISTS // 2] += 1
  found = np.concatenate([low, low + size], axis=-1).astype(np.float32) / 8
  counts = rng.integers(0, _MOST + 1, _LISTS)
  return found, np.arange(_MOST)[None] < counts[:, None]


def _one_after_another(found, threshold, inclusive, plus):
  """Greedy suppression as a loop -> places that are kept."""
  kept = []
  for place in range(len(found)):
    overlaps = [_overlap(found[place], found[k], plus) for k in kept]
    if not any(o > threshold or (inclusive and o == threshold)
               for o in overlaps):  # fmt: skip
      kept.append(place)
  return kept


def _overlap(a, b, plus):
  width, height = (
    max(min(a[2 + i], b[2 + i]) - max(a[i], b[i]) + plus, 0) for i in (0, 1)
  )
  areas = [(x[2] - x[0] + plus) * (x[3] - x[1] + plus) for x in (a, b)]
  both = width * height
  return both / (sum(areas) - both) if sum(areas) - both else 0.0


class OverlapTest(parameterized.TestCase):
  def test_overlaps_by_hand(self):
    a = jnp.array([[0.0, 0, 4, 4], [0, 0, 0, 4]])
    b = jnp.array([[2.0, 2, 6, 6], [0, 0, 4, 4], [4, 0, 8, 4], [1, 1, 1, 1]])
    np.testing.assert_array_equal(
      boxes.iou(a, b),
      np.float32([[4 / 28, 1, 0, 0], [0, 0, 0, 0]]),
    )
    # Pixels: widths are 5 and 1, and boxes that touch share a column.
    np.testing.assert_array_equal(
      boxes.iou(a, b, plus=1),
      np.float32([[9 / 41, 1, 5 / 45, 1 / 25], [0, 5 / 25, 0, 0]]),
    )

  def test_boxes_without_area_have_a_gradient(self):
    flat = jnp.zeros((2, 4))
    overlaps = lambda b: boxes.iou(b, flat).sum()  # noqa: E731
    slope = quick.jit(jax.grad(overlaps))(flat)
    self.assertTrue(np.isfinite(slope).all())

  @parameterized.parameters(0, 1)
  def test_forms_of_a_box(self, plus):
    corner = jnp.array([[1.0, 2, 5, 4], [3, 3, 3, 3]])
    expected = {
      0: [[3, 3, 4, 2], [3, 3, 0, 0]], 1: [[3.5, 3.5, 5, 3], [3.5, 3.5, 1, 1]]
    }  # fmt: skip
    found = boxes.centred(corner, plus=plus)
    np.testing.assert_array_equal(found, np.float32(expected[plus]))
    np.testing.assert_array_equal(boxes.corners(found, plus=plus), corner)


class CoderTest(absltest.TestCase):
  def test_codes_by_hand(self):
    anchor = jnp.array([[0.5, 0.25, 0.5, 0.125]])
    box = jnp.array([[0.75, 0.25, 0.5 * math.e, 0.125]])
    found = boxes.encode(box, anchor, (10.0, 5.0))
    np.testing.assert_allclose(found, [[5, 0, 5, 0]], atol=1e-6)
    np.testing.assert_allclose(
      boxes.decode(found, anchor, (10.0, 5.0)), box, rtol=1e-6
    )
    bounded = boxes.decode(found, anchor, (10.0, 5.0), most=math.log(2))
    np.testing.assert_allclose(bounded[0, 2:], [1.0, 0.125], rtol=1e-6)

  def test_codes_of_detectron(self):
    """From modeling/box_coder.py of the reference of Mask R-CNN."""
    anchor = jnp.array([[10.0, 20, 41, 35]])
    box = jnp.array([[12.0, 18, 60, 40]])
    centred = [boxes.centred(x, plus=1) for x in (box, anchor)]
    found = boxes.encode(*centred, (10.0, 5.0))
    np.testing.assert_allclose(found, [_OF_DETECTRON], rtol=1e-6)
    back = boxes.decode(found, centred[1], (10.0, 5.0))
    np.testing.assert_allclose(boxes.corners(back, plus=1), box, rtol=1e-6)

  def test_a_box_of_no_width_has_a_finite_code_far_below_all_others(self):
    anchor = jnp.array([[0.5, 0.5, 0.1, 0.1]])
    found = boxes.encode(jnp.array([[0.5, 0.5, 0.0, 0.1]]), anchor, (10.0, 5.0))
    self.assertTrue(np.isfinite(found).all())
    self.assertLess(found[0, 2], -400)
    self.assertAlmostEqual(float(found[0, 3]), 0.0)


_OF_DETECTRON = (3.28125, 0.9375, 2.1304221, 1.8145275)


class SuppressionTest(parameterized.TestCase):
  @parameterized.product(inclusive=(False, True), plus=(0, 1))
  def test_what_a_loop_keeps_is_kept_ties_included(self, inclusive, plus):
    found, valid = _lists()
    if plus:
      found = np.round(found * 8)
    kept = quick.jit(
      jax.vmap(
        lambda b, v: boxes.nms(
          b, v, threshold=0.5, inclusive=inclusive, plus=plus
        )
      )
    )(found, valid)
    for each, real, ours in zip(found, valid, np.asarray(kept), strict=True):
      expected = _one_after_another(each[real].tolist(), 0.5, inclusive, plus)
      self.assertEqual(np.flatnonzero(ours).tolist(), expected)
    if inclusive and not plus:
      crc = zlib.crc32(np.packbits(kept[: _LISTS // 2]).tobytes())
      self.assertEqual(crc, _KEPT_BY_REFERENCE)

  def test_a_chain_of_exclusions_needs_as_many_rounds_as_it_has_links(self):
    count = 33
    excludes = jnp.eye(count, k=1, dtype=bool)  # each the next one
    kept = quick.jit(boxes.greedy)(excludes, jnp.ones(count, bool))
    np.testing.assert_array_equal(kept, np.arange(count) % 2 == 0)

  def test_what_is_not_valid_neither_stays_nor_excludes(self):
    same = jnp.broadcast_to(jnp.array([0.0, 0, 1, 1]), (3, 4))
    kept = quick.jit(functools.partial(boxes.nms, threshold=0.5))(
      same, jnp.array([False, True, True])
    )
    np.testing.assert_array_equal(kept, [False, True, False])


if __name__ == '__main__':
  absltest.main()
