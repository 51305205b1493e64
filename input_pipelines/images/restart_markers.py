"""Gives a JPEG restart markers and a table of them, and loses nothing.

Such a file can be cut to the part that a crop needs (`restart_jpeg.py`), and is
an ordinary JPEG to every other reader. Only the entropy coding is new: the
program jpegtran, of libjpeg-turbo, takes the coefficients from one coding to
the other. Comments, EXIF and ICC profiles go; no decoder of ours reads them.
"""

import struct
import subprocess

import numpy as np

from input_pipelines.images import decode, restart_jpeg

# Short segments leave less to decode around a crop, and cost about five bytes
# each. Four units are 64 pixels of a photograph.
_INTERVAL = 4
_LARGEST = 2**16 - 1  # bytes of a segment
_MOST_SEGMENTS = (_LARGEST - 2 - len(restart_jpeg.TAG)) // 2

_FIRST = (0xE0, 0xEE)  # some readers expect these at the very beginning


def transcode(jpeg: bytes) -> bytes:
  """The same image with restart markers and their table.

  Its quantised coefficients, quantisation tables, sampling and size are those
  of `jpeg`, and so are the decoded pixels. All of that is checked, each time:
  what jpegtran writes without markers is a function of the coefficients and of
  the frame, so it must be the same bytes for both files.

  Args:
    jpeg: an image that `decode.decode` can decode.

  Returns:
    A JPEG with a single scan. Or `jpeg` itself where that cannot be: there is
    junk in it, it is CMYK, it is progressive and lacks scans, or its segments
    do not fit into the table.
  """
  pixels = decode.decode(jpeg)  # refuses what is broken
  head = restart_jpeg.header(jpeg)
  marked = _jpegtran(jpeg, '-optimize', '-restart', f'{_interval(head)}B')
  marked = marked and add_table(marked)
  if not marked:
    return jpeg
  if _jpegtran(jpeg) != _jpegtran(marked):
    raise RuntimeError(
      'Expected jpegtran to keep the coefficients of a JPEG of '
      f'{head.height} x {head.width} pixels in {len(jpeg)} bytes, it changed '
      'them.'
    )
  # Decoders smooth what a progressive file leaves out, and only there.
  return marked if np.array_equal(decode.decode(marked), pixels) else jpeg


def add_table(jpeg: bytes) -> bytes | None:
  """Adds the table of its segments to a JPEG with restart markers.

  It comes before all but JFIF's and Adobe's own segments.

  Args:
    jpeg: an image without such a table.

  Returns:
    The image with it, or None where there is no room for the table, or no way
    to cut the image.
  """
  head = restart_jpeg.header(jpeg)
  data = np.frombuffer(jpeg, np.uint8, offset=head.data)
  # Within the data, 255 is followed by 0 unless it begins a marker.
  ends = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] != 0)) + 2
  sizes = np.diff(ends, prepend=0)
  if not head.plain or sizes.max() > _LARGEST or len(sizes) > _MOST_SEGMENTS:
    return None
  payload = restart_jpeg.TAG + sizes.astype('>u2').tobytes()
  table = b'\xff\xe9' + struct.pack('>H', 2 + len(payload)) + payload
  at = 2
  while jpeg[at + 1] in _FIRST:
    at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], 'big')
  return jpeg[:at] + table + jpeg[at:]


def _jpegtran(jpeg: bytes, *arguments: str) -> bytes | None:
  """Output of jpegtran; None if it reported any problem."""
  try:
    done = subprocess.run(
      ['jpegtran', '-copy', 'none', *arguments],
      input=jpeg,
      capture_output=True,
    )
  except FileNotFoundError as error:
    raise FileNotFoundError(
      'Expected the program jpegtran, found none. It is in the package '
      'libjpeg-turbo-progs of Debian and Ubuntu, and in jpeg-turbo of Homebrew.'
    ) from error
  return done.stdout if done.returncode == 0 else None


def _interval(head: restart_jpeg.Header) -> int:
  """Units from marker to marker: they divide a row, and the table has room."""
  rows = -(-head.height // head.unit_height)
  columns = -(-head.width // head.unit_width)
  divisors = [n for n in range(1, columns + 1) if columns % n == 0]
  shortest = max(n for n in divisors if n <= _INTERVAL)
  for interval in divisors[divisors.index(shortest) :]:
    if rows * (columns // interval) <= _MOST_SEGMENTS:
      break
  return interval
