"""Tests of sliding windows: places by hand, slots, shares of lanes."""

import itertools

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.kits19 import windows

_SHAPES = [(190, 333, 333), (128, 261, 280), (131, 128, 129), (300, 200, 143)]


class AxisTest(parameterized.TestCase):
  @parameterized.parameters(
    # size, and: first voxel kept, voxels kept, padding in front, tiles
    (128, 0, 128, 0, 2),
    (131, 1, 128, 0, 2),  # 3 too many: 1 in front, 2 behind
    (159, 15, 128, 0, 2),
    (160, 0, 160, 16, 3),  # half a tile too many: padded
    (191, 0, 191, 0, 3),  # the one voxel of padding is behind
    (100, 0, 100, 14, 2),
    (70, 3, 64, 32, 2),  # shorter than a window once it is cut
  )
  def test_an_axis_is_cut_or_padded_as_in_the_reference(self, size, *expected):
    found = windows.axis_of(size, 128)
    self.assertEqual(
      (found.first, found.size, found.front, found.tiles), expected
    )
    self.assertEqual(found.windows, found.tiles - 1)


class WindowsTest(parameterized.TestCase):
  @parameterized.parameters(*_SHAPES)
  def test_each_voxel_that_is_kept_is_completed_once(self, *shape):
    axes = [windows.axis_of(size, 128) for size in shape]
    seen = np.zeros(shape, np.int8)
    for window in windows.over(0, shape, 128):
      for inside, there in window.completed:
        self.assertEqual(*(_extent(cut) for cut in (inside, there)))
        seen[there] += 1
    kept = tuple(slice(a.first, a.first + a.size) for a in axes)
    self.assertEqual(seen[kept].min(), 1)
    self.assertEqual(seen.sum(), seen[kept].size)

  @parameterized.parameters(*_SHAPES)
  def test_a_tile_keeps_its_slot_from_its_first_window_to_its_last(
    self, *shape
  ):
    tiles = [windows.axis_of(size, 128).tiles for size in shape]
    places = itertools.product(*(range(n - 1) for n in tiles))
    holds, touched = {}, {}
    for place, window in zip(places, windows.over(5, shape, 128), strict=True):
      self.assertEqual(window.volume, 5)
      self.assertLen({*window.slots}, 8)
      for octant, slot, begins in zip(
        itertools.product((0, 1), repeat=3),
        window.slots,
        window.begins,
        strict=True,
      ):
        tile = tuple(map(sum, zip(place, octant, strict=True)))
        if begins:
          self.assertNotIn(tile, touched)
          # Who had the slot is complete: the last window that holds it is past.
          if slot in holds:
            last = tuple(
              min(t, n - 2) for t, n in zip(holds[slot], tiles, strict=True)
            )
            self.assertLess(last, place)
          holds[slot] = tile
        self.assertEqual(holds[slot], tile)
        touched[tile] = touched.get(tile, 0) + 1
    self.assertLen(touched, np.prod(tiles))
    self.assertEqual(sum(touched.values()), 8 * np.prod(np.array(tiles) - 1))

  def test_windows_lie_half_a_window_apart(self):
    *_, last = windows.over(0, (18, 33, 21), 16)
    # 18 is cut to 16, 33 to 32; 21 is padded to 24, one voxel of it in front.
    inside, there = last.overlap
    self.assertEqual(there, (slice(1, 17), slice(16, 32), slice(7, 21)))
    self.assertEqual(inside, (slice(0, 16), slice(0, 16), slice(0, 14)))
    self.assertEqual(last.number, 1 * 3 * 2 - 1)


class LanesTest(parameterized.TestCase):
  def lanes(self, lanes, batch_size=None, shapes=_SHAPES):
    return windows.Lanes(
      shapes, side=128, lanes=lanes, batch_size=batch_size or 2 * lanes
    )

  @parameterized.parameters(1, 2, 3, 8)
  def test_every_window_comes_once_and_volumes_stay_on_a_lane(self, count):
    lanes, found = self.lanes(count), []
    for step in range(lanes.steps):
      rows = lanes.rows(step)
      self.assertLen(rows, 2 * count)
      found += [(i // 2, row) for i, row in enumerate(rows) if row]
    expected = [
      w for i, shape in enumerate(_SHAPES) for w in windows.over(i, shape, 128)
    ]
    self.assertLen(found, len(expected))
    of_volume = {}
    for lane, window in found:
      of_volume.setdefault(window.volume, []).append((lane, window.number))
    for volume, places in of_volume.items():
      self.assertLen({lane for lane, _ in places}, 1)
      numbers = [number for _, number in places]
      self.assertEqual(numbers, [*range(len(numbers))], volume)

  def test_lanes_are_filled_by_windows_not_by_volumes(self):
    # 45 windows, and 15 of one each: the long volume has a lane of its own.
    shapes = [(256, 384, 256)] + 15 * [(128, 128, 128)]
    lanes = self.lanes(2, shapes=shapes)
    alone = {w.volume for step in range(lanes.steps)
             for w in lanes.rows(step)[:2] if w}  # fmt: skip
    self.assertEqual(alone, {0})
    self.assertAlmostEqual(lanes.efficiency, 60 / 92)

  @parameterized.parameters(2, 4)
  def test_hosts_have_whole_lanes(self, hosts):
    lanes = self.lanes(8, 16)
    for step in range(lanes.steps):
      shares = [
        lanes.rows(step, host=host, hosts=hosts) for host in range(hosts)
      ]
      self.assertEqual([*itertools.chain(*shares)], lanes.rows(step))

  def test_slots_are_about_the_tiles_of_a_plane(self):
    lanes = self.lanes(1, shapes=[(448, 448, 448)])
    self.assertBetween(lanes.slots, 49, 7 * 7 + 2 * 7 + 2)


def _extent(cut):
  return [each.stop - each.start for each in cut]


if __name__ == '__main__':
  absltest.main()
