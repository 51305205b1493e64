"""Cuts out of a JPEG a smaller one that holds a crop: less has to be decoded.

An entropy-coded segment between two restart markers can be decoded by itself,
so a JPEG with many of them, and with a table that says where they are, is cut
to the segments under the crop. `restart_markers.py` writes such files.
The table is an application segment, which every other reader skips:

  FF E9, length, TAG, and the size of every segment with the marker that ends
  it, uint16, big-endian

A sequential JPEG without restart markers is cut below the crop: its header then
claims fewer rows, and the decoder stops there.
"""

from collections.abc import Sequence
import dataclasses
import struct

import numpy as np

TAG = b'RSTSIZE\0'

# Chroma of half the size is interpolated, so that a pixel needs the samples of
# the pair of pixels beside it, above it or below it. A multiple of two.
_MARGIN = 2

_EOI, _SOS, _DRI, _APP9 = 0xD9, 0xDA, 0xDD, 0xE9
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])  # markers without a segment
# Tables have numbers among those of the frames.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)  # with Huffman's codes

# The second bytes of restart markers, for as many as fit into a table.
_MARKERS = (0xD0 + np.arange(2**15) % 8).astype(np.uint8)


@dataclasses.dataclass(slots=True)
class Header:
  """Header before the entropy-coded data; offsets in bytes."""

  height: int
  width: int
  unit_height: int  # of what is coded together (MCU), in pixels
  unit_width: int
  interval: int  # units from one restart marker to the next; 0 for none
  frame: int  # offset of the height, which the width follows
  table: slice  # of the segment with the table; empty where there is none
  data: int  # offset of the entropy-coded data
  # Whether it is sequential, of one scan, and nothing stands out of place.
  plain: bool


@dataclasses.dataclass(slots=True)
class Part:
  """A JPEG whose top left pixel is pixel (y, x) of the one it was cut from."""

  jpeg: bytes | bytearray
  y: int
  x: int
  height: int
  width: int
  ends_early: bool = False  # whether data of rows below follows its own


def header(jpeg: bytes) -> Header:
  """Reads the header; junk between its segments is passed over."""
  if jpeg[:2] != b'\xff\xd8':
    raise ValueError(
      f'Expected a JPEG, which begins with ff d8, got {len(jpeg)} bytes: '
      f'{jpeg[:4].hex(" ")} ...'
    )
  try:
    return _header(jpeg)
  except (IndexError, struct.error) as error:
    raise ValueError(
      f'Expected a JPEG, got {len(jpeg)} bytes that end within its header.'
    ) from error


def cut(jpeg: bytes, head: Header, box: Sequence[int]) -> Part:
  """A part that holds the pixels under a box and those they depend on.

  Under the box it decodes to the pixels of the whole. A table that does not fit
  the file is passed over.

  Args:
    jpeg: an image.
    head: its header.
    box: y x height width, within the image.

  Returns:
    The part, which is the whole image where it cannot be cut.
  """
  if head.plain and head.interval and head.table.stop:
    offsets = _offsets(jpeg, head)
    if offsets is not None:
      return _cut_segments(jpeg, head, offsets, box)
  height = box[0] + box[2] + _MARGIN
  # The decoder passes over what is left, and says whether it met the file's end
  # before it met a marker. So there must be none but the last.
  if not head.plain or head.interval or height >= head.height:
    return Part(jpeg, 0, 0, head.height, head.width)
  shorter = bytearray(jpeg)
  struct.pack_into('>H', shorter, head.frame, height)
  return Part(shorter, 0, 0, height, head.width, ends_early=True)


def _header(jpeg: bytes) -> Header:
  head = Header(0, 0, 0, 0, 0, 0, slice(0, 0), 0, True)
  components = 0
  i = 2
  while True:
    if jpeg[i] != 0xFF or jpeg[i + 1] in (0x00, 0xFF):
      head.plain = False
      i = _next_marker(jpeg, i)
    marker = jpeg[i + 1]
    if marker in _ALONE:
      head.plain = False
      i += 2
      continue
    end = i + 2 + (jpeg[i + 2] << 8 | jpeg[i + 3])
    if marker == _SOS:
      head.plain &= components == jpeg[i + 4] and end == i + 8 + 2 * components
      head.data = end
      return _with_pixels(head)
    if marker == _EOI:
      raise ValueError('Expected a JPEG with a scan, got one without.')
    if marker == _APP9 and jpeg[i + 4 : i + 4 + len(TAG)] == TAG:
      head.table = slice(i, end)
    elif marker == _DRI:
      head.interval = jpeg[i + 4] << 8 | jpeg[i + 5]
    elif marker in _FRAMES:
      head.plain &= marker in _SEQUENTIAL and not components
      components = _read_frame(jpeg, i, head)
    i = end


def _next_marker(jpeg: bytes, i: int) -> int:
  """The offset of the first marker from `i` on."""
  while jpeg[i] != 0xFF or jpeg[i + 1] in (0x00, 0xFF):
    i += 1
  return i


def _read_frame(jpeg: bytes, i: int, head: Header) -> int:
  """Fills in what the frame says; returns its number of components."""
  bits, head.height, head.width, components = struct.unpack_from(
    '>BHHB', jpeg, i + 4
  )
  head.frame = i + 5
  head.plain &= bits == 8 and components in (1, 3)
  head.unit_height = head.unit_width = 8
  if components > 1:
    sampling = [jpeg[i + 11 + 3 * c] for c in range(components)]
    head.unit_height *= max(s & 15 for s in sampling)
    head.unit_width *= max(s >> 4 for s in sampling)
  return components


def _with_pixels(head: Header) -> Header:
  if not (head.height and head.width):
    raise ValueError(
      'Expected a JPEG with pixels, got one with height '
      f'{head.height} and width {head.width}.'
    )
  head.plain &= bool(head.unit_height and head.unit_width)
  return head


def _offsets(jpeg: bytes, head: Header) -> np.ndarray | None:
  """Starts of segments, then the end of the last: int64 [segments + 1].

  Or None, if the table does not fit the file: the segments must fill it, and
  each must end in its marker.
  """
  rows, columns = _grid(head)
  count = rows * columns
  start = head.table.start + 4 + len(TAG)
  if columns * head.interval * head.unit_width < head.width:
    return None
  if head.table.stop != start + 2 * count:
    return None
  offsets = np.empty(count + 1, np.int64)
  offsets[0] = head.data
  np.frombuffer(jpeg, '>u2', count, start).cumsum(out=offsets[1:])
  offsets[1:] += head.data
  if offsets[-1] != len(jpeg) or jpeg[-2:] != b'\xff\xd9':
    return None
  data = np.frombuffer(jpeg, np.uint8)
  found = data[offsets[1:-1] - 1] == _MARKERS[: count - 1]
  found &= data[offsets[1:-1] - 2] == 0xFF
  return offsets if found.all() else None


def _grid(head: Header) -> Sequence[int]:
  """Rows of units, and segments in a row of them."""
  units = -(-head.width // head.unit_width)
  return -(-head.height // head.unit_height), units // head.interval


def _cut_segments(
  jpeg: bytes, head: Header, offsets: np.ndarray, box: Sequence[int]
) -> Part:
  """The segments under the box, behind a header of their size."""
  segment_width = head.unit_width * head.interval
  rows = _span(box[0], box[2], head.height, head.unit_height)
  columns = _span(box[1], box[3], head.width, segment_width)
  y, x = rows.start * head.unit_height, columns.start * segment_width
  height = min(head.height, rows.stop * head.unit_height) - y
  width = min(head.width, columns.stop * segment_width) - x

  part = bytearray(jpeg[: head.data])
  struct.pack_into('>HH', part, head.frame, height, width)
  del part[head.table]
  header_bytes = len(part)
  starts = offsets[:-1].reshape(_grid(head))[rows, columns]
  ends = offsets[1:].reshape(_grid(head))[rows, columns]
  for start, end in zip(
    starts[:, 0].tolist(), ends[:, -1].tolist(), strict=True
  ):
    part += jpeg[start:end]
  cuts = (ends - starts).cumsum()
  cuts += header_bytes - 1
  np.frombuffer(part, np.uint8)[cuts] = _MARKERS[: len(cuts)]
  part[-1] = _EOI
  return Part(part, y, x, height, width)


def _span(start: int, length: int, whole: int, unit: int) -> slice:
  """The units that pixels and their margin lie in."""
  end = min(whole, start + length + _MARGIN)
  return slice(max(0, start - _MARGIN) // unit, -(-end // unit))
