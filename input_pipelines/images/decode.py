"""JPEG bytes -> pixels, and the bilinear resize of the references."""

from collections.abc import Sequence
import math
import threading

import cv2
import numpy as np
import simplejpeg

from input_pipelines.images import restart_jpeg

# A header of a few bytes may claim 4 gigapixels. This many take 512 MiB while
# they are decoded, and as much again and half if the file is progressive.
MOST_PIXELS = 2**27

# Batches are decoded in parallel, each image on one core.
cv2.setNumThreads(1)

# What the decoder says of bytes that it had no use for, if it was content with
# all before them. It decodes to the end whatever it says.
_DATA_LEFT = 'extraneous bytes'
_KEPT_BYTES = 2**26  # the most that a thread keeps to decode its next image in


def size(jpeg: bytes) -> tuple[int, int]:
  """Height and width of a JPEG, from its header."""
  head = _header(jpeg)
  return head.height, head.width


def decode(jpeg: bytes) -> np.ndarray:
  """A JPEG, grey or in colour, as RGB: uint8 [H, W, 3].

  The fast DCT is what the references' decoder uses by default; the pixels are
  equal bit for bit. As there, a file that ends early is an error, while junk
  between the segments of a file that is whole is passed over.
  """
  _header(jpeg)
  return _decode(jpeg, 'RGB')


def decode_crop(jpeg: bytes, box: Sequence[int]) -> np.ndarray:
  """The pixels of `decode(jpeg)` under a box, without most of the others.

  What cannot be seen in the crop may go unnoticed: damage outside of it.

  Args:
    jpeg: an image.
    box: y x height width, within the image.

  Returns:
    uint8 [height, width, 3].
  """
  return np.ascontiguousarray(_crop(jpeg, box)[..., :3])


def crop_and_resize(
  jpeg: bytes, box: Sequence[int], out: np.ndarray, *, mirrored: bool = False
) -> None:
  """`resize` of `decode_crop`, in about two thirds of the time.

  Args:
    jpeg: an image.
    box: y x height width, within the image.
    out: uint8 [h, w, 3], contiguous, written in place.
    mirrored: whether the crop is first flipped left to right.
  """
  # Four channels are decoded as fast as three and resized twice as fast.
  resized = _scratch.array('resized', (*out.shape[:2], 4))
  resize(_crop(jpeg, box), resized, mirrored=mirrored)
  cv2.cvtColor(resized, cv2.COLOR_RGBA2RGB, dst=out)


def decode_centre(jpeg: bytes, out: np.ndarray, shorter: int) -> None:
  """`resize_and_crop` of `decode`, as fast as `crop_and_resize`.

  Args:
    jpeg: an image.
    out: uint8 [h, w, 3], contiguous, written in place.
    shorter: the size that its shorter side is resized to.
  """
  resized = _scratch.array('resized', (*out.shape[:2], 4))
  resize_and_crop(_crop(jpeg, (0, 0, *size(jpeg))), resized, shorter)
  cv2.cvtColor(resized, cv2.COLOR_RGBA2RGB, dst=out)


def resize(
  image: np.ndarray, out: np.ndarray, *, mirrored: bool = False
) -> None:
  """Resizes uint8 [H, W, C] into `out` uint8 [h, w, C], bilinear, rounded.

  Output pixel i samples the source at i * H / h: corners are not aligned,
  pixels have no half-pixel centres, and nothing is smoothed before it is made
  smaller. That is `tf.compat.v1.image.resize`, which the references call;
  `cv2.resize` places its samples half a pixel elsewhere.

  Args:
    image: the source.
    out: written in place.
    mirrored: whether the source is first flipped left to right.
  """
  height, width = image.shape[:2]
  x_scale = width / out.shape[1]
  y_scale = height / out.shape[0]
  if not mirrored:
    _sample(image, out, (x_scale, 0.0), (y_scale, 0.0))
    return
  # To walk a row backwards takes the sampler twice as long.
  last = width - 1 - (out.shape[1] - 1) * x_scale
  _sample(image, out, (x_scale, last), (y_scale, 0.0))
  cv2.flip(out, 1, dst=out)


def resize_and_crop(image: np.ndarray, out: np.ndarray, shorter: int) -> None:
  """Resizes the shorter side to `shorter` and writes the centre into `out`.

  Only the pixels under the crop are computed. The resize is that of `resize`.
  """
  height, width = image.shape[:2]
  # In single precision, as in the references, where the product is cut off to
  # an integer: 255.99998 becomes 255.
  scale = np.float32(shorter) / np.float32(min(height, width))
  new_height = int(np.float32(height) * scale)
  new_width = int(np.float32(width) * scale)
  top = (new_height - out.shape[0]) // 2
  left = (new_width - out.shape[1]) // 2
  x_scale = width / new_width
  y_scale = height / new_height
  _sample(image, out, (x_scale, left * x_scale), (y_scale, top * y_scale))


def _sample(
  image: np.ndarray,
  out: np.ndarray,
  x: tuple[float, float],
  y: tuple[float, float],
) -> None:
  """Samples at (scale, offset) a side; beyond the edge, the edge repeats."""
  inverse = np.array([[x[0], 0, x[1]], [0, y[0], y[1]]])
  cv2.warpAffine(
    image,
    inverse,
    (out.shape[1], out.shape[0]),
    dst=out,
    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )


class _Scratch(threading.local):
  """Memory that a thread uses again: fresh pages cost a tenth of a decode."""

  def __init__(self):
    self._memory = {}

  def array(self, name: str, shape: Sequence[int]) -> np.ndarray:
    """An array of that shape, uint8, with whatever was last written in it."""
    needed = math.prod(shape)
    if needed > _KEPT_BYTES:
      return np.empty(shape, np.uint8)
    memory = self._memory.get(name)
    if memory is None or memory.size < needed:
      memory = self._memory[name] = np.empty(needed, np.uint8)
    return memory[:needed].reshape(shape)


_scratch = _Scratch()


def _header(jpeg: bytes) -> restart_jpeg.Header:
  head = restart_jpeg.header(jpeg)
  if head.height * head.width > MOST_PIXELS:
    raise ValueError(
      f'Expected a JPEG of {MOST_PIXELS} pixels at most, got one of '
      f'{head.height} x {head.width}.'
    )
  return head


def _crop(jpeg: bytes, box: Sequence[int]) -> np.ndarray:
  """The pixels under a box: uint8 [h, w, 4], which the next call overwrites."""
  head = _header(jpeg)
  y, x, h, w = box = [int(side) for side in box]
  if not (0 <= y < y + h <= head.height and 0 <= x < x + w <= head.width):
    raise ValueError(
      f'Expected a box y x height width within {head.height} x {head.width} '
      f'pixels, got {box}.'
    )
  part = restart_jpeg.cut(jpeg, head, box)
  pixels = _scratch.array('decoded', (part.height, part.width, 4))
  try:
    simplejpeg.decode_jpeg(part.jpeg, 'RGBX', fastdct=True, buffer=pixels)
  except ValueError as error:
    if not (part.ends_early and _DATA_LEFT in str(error)):
      return _decode(jpeg, 'RGBX')[y : y + h, x : x + w]
  y, x = y - part.y, x - part.x
  return pixels[y : y + h, x : x + w]


def _decode(jpeg: bytes, channels: str) -> np.ndarray:
  try:
    return simplejpeg.decode_jpeg(jpeg, channels, fastdct=True)
  except ValueError as error:
    if _DATA_LEFT not in str(error):
      raise
  return simplejpeg.decode_jpeg(jpeg, channels, fastdct=True, strict=False)
