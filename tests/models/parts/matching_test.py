"""Tests of which object an anchor is to find."""

import functools
import zlib

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.parts import boxes, matching
from tests import quick

_CASES, _OBJECTS, _ANCHORS = 200, 6, 64
# CRC-32 of the objects, from 1, that anchors find in `_cases`: by the encoder
# of the reference of SSD (mlcommons/training, retired_benchmarks/ssd-v1/ssd/
# utils.py), and by torchvision 0.29.1 (models/detection/_utils.py: Matcher) by
# two thresholds with what is best kept, and by one without.
_OF_SSD, _OF_TWO, _OF_ONE = 3083794134, 3659902672, 1234121273


def cases():
  """Objects [C, G, 4] with their number [C], and anchors [A, 4], in corners.

  All lie on a coarse grid: overlaps tie, and arithmetic is exact. Some objects
  have no area, some are there twice, some are an anchor.
  """
  rng = np.random.default_rng(3)

  def draw(*shape):
    low = rng.integers(0, 12, (*shape, 2))
    size = rng.integers(0, 9, (*shape, 2))
    return np.concatenate([low, low + size], axis=-1)

  anchors = draw(_ANCHORS)
  anchors[:, 2:] += 1  # the reference's have an area
  objects = draw(_CASES, _OBJECTS)
  objects[::3, 1] = objects[::3, 0]
  objects[::4, 2] = anchors[:: _ANCHORS // 50][: len(objects[::4])]
  counts = rng.integers(1, _OBJECTS + 1, _CASES)
  return np.float32(objects) / 16, counts, np.float32(anchors) / 16


def _found(match):
  objects, counts, anchors = cases()
  real = np.arange(_OBJECTS)[None] < counts[:, None]
  overlaps = jax.vmap(lambda each: boxes.iou(each, jnp.asarray(anchors)))
  return np.asarray(
    quick.jit(lambda o, r: jax.vmap(match)(overlaps(o), r))(objects, real)
  )


def _crc(found):
  return zlib.crc32(found.astype(np.int32).tobytes())


class MatchingTest(parameterized.TestCase):
  def test_matches_of_ssd_are_those_of_the_reference_ties_included(self):
    def match(overlaps, real):
      found = matching.forced(overlaps, real, threshold=0.5)
      return jnp.where(found.positive, found.index + 1, 0)

    self.assertEqual(_crc(_found(match)), _OF_SSD)

  @parameterized.parameters(
    (0.3, 0.7, True, _OF_TWO), (0.5, 0.5, False, _OF_ONE)
  )
  def test_matches_by_thresholds_are_those_of_torchvision(
    self, low, high, keep_best, expected
  ):
    found = _found(
      lambda overlaps, real: matching.banded(
        overlaps, real, low=low, high=high, keep_best=keep_best
      )
    )
    self.assertEqual(_crc(found), expected)

  def test_an_object_without_any_overlap_is_forced_on_the_first_anchor(self):
    overlaps = jnp.array([[0.0, 0.0, 0.0], [0.6, 0.2, 0.5]])
    forced = quick.jit(functools.partial(matching.forced, threshold=0.5))
    found = forced(overlaps, jnp.ones(2, bool))
    # Both claim the first; the last has it. A half is not more than a half.
    np.testing.assert_array_equal(found.positive, [True, False, False])
    self.assertEqual(found.index[0], 1)
    found = forced(overlaps, jnp.array([True, False]))
    np.testing.assert_array_equal(found.positive, [True, False, False])
    self.assertEqual(found.index[0], 0)

  def test_without_objects_nothing_is_found(self):
    overlaps, real = jnp.ones((2, 3)), jnp.zeros(2, bool)
    found = matching.forced(overlaps, real, threshold=0.5)
    self.assertFalse(found.positive.any())
    banded = matching.banded(overlaps, real, low=0.3, high=0.7, keep_best=True)
    np.testing.assert_array_equal(banded, 3 * [matching.NEGATIVE])


if __name__ == '__main__':
  absltest.main()
