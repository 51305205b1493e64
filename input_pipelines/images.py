"""JPEG bytes -> pixels, and the bilinear resize of the references."""

import cv2
import numpy as np
import simplejpeg

# Batches are decoded in parallel, each image on one core.
cv2.setNumThreads(1)


def size(jpeg: bytes) -> tuple[int, int]:
  """Height and width of a JPEG, from its header."""
  height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
  return height, width


def decode(jpeg: bytes) -> np.ndarray:
  """A JPEG, grey or in colour, as RGB: uint8 [H, W, 3].

  The fast DCT is what the references' decoder uses by default; the pixels are
  equal bit for bit. As there, a file that ends early is an error, while junk
  between the segments of a file that is whole is passed over.
  """
  try:
    return simplejpeg.decode_jpeg(jpeg, 'RGB', fastdct=True)
  except ValueError as error:
    if 'extraneous bytes' not in str(error):
      raise
  return simplejpeg.decode_jpeg(jpeg, 'RGB', fastdct=True, strict=False)


def decode_crop(jpeg: bytes, y: int, x: int, h: int, w: int) -> np.ndarray:
  """The pixels of `decode(jpeg)` under a box: uint8 [h, w, 3]."""
  return decode(jpeg)[y : y + h, x : x + w]


def resize(
  image: np.ndarray, out: np.ndarray, *, mirrored: bool = False
) -> None:
  """Resizes uint8 [H, W, 3] into `out` uint8 [h, w, 3], bilinear, rounded.

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
  if mirrored:
    _sample(image, out, (-x_scale, width - 1.0), (y_scale, 0.0))
  else:
    _sample(image, out, (x_scale, 0.0), (y_scale, 0.0))


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
