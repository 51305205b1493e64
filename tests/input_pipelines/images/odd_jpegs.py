"""JPEGs of every kind that hypothesis thinks of, for the tests of decoding."""

import io

from hypothesis import strategies as st
import numpy as np
from PIL import Image
import simplejpeg

GREY = 128


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
  """Blocks of colour with noise on them: uint8 [H, W, 3]."""
  rng = np.random.default_rng(seed)
  colours = rng.integers(0, 256, (height // 7 + 1, width // 9 + 1, 3))
  large = colours.repeat(7, 0).repeat(9, 1)[:height, :width]
  noise = rng.integers(-20, 21, (height, width, 3))
  return np.clip(large + noise, 0, 255).astype(np.uint8)


def jpeg(
  height: int, width: int, *, mode: str = 'RGB', seed: int = 0, **how
) -> bytes:
  """Such a picture, saved by Pillow in a mode of its own."""
  file = io.BytesIO()
  image = Image.fromarray(picture(height, width, seed)).convert(mode)
  image.save(file, 'JPEG', **{'quality': 90, **how})
  return file.getvalue()


def tall_chroma(height: int, width: int, sampling: str) -> bytes:
  """In the samplings 4:4:0 and 4:1:1, which Pillow does not write."""
  return simplejpeg.encode_jpeg(picture(height, width), 90, 'RGB', sampling)


def flat(height: int, width: int) -> bytes:
  """All grey, whatever its size, with a restart marker every fifty units."""
  file = io.BytesIO()
  image = Image.new('L', (width, height), GREY)
  image.save(file, 'JPEG', restart_marker_blocks=50)
  return file.getvalue()


@st.composite
def jpegs(draw, largest: int = 100) -> bytes:
  """Grey or colour, any sampling, sequential or not, with any markers."""
  height, width = (draw(st.integers(1, largest)) for _ in range(2))
  if draw(st.integers(0, 5)) == 0:
    return tall_chroma(height, width, draw(st.sampled_from(['440', '411'])))
  how = {'exif': b'Exif\0\0' + bytes(40)} if draw(st.booleans()) else {}
  if draw(st.booleans()):
    how['comment'] = draw(st.binary(max_size=20))
  how['mode'] = draw(st.sampled_from(['L', 'RGB', 'RGB']))
  how['subsampling'] = draw(st.integers(0, 2))
  if how['mode'] == 'RGB' and how['subsampling'] == 0:
    how['keep_rgb'] = draw(st.booleans())
  return jpeg(
    height,
    width,
    seed=draw(st.integers(0, 3)),
    quality=draw(st.sampled_from([30, 90, 100])),
    progressive=draw(st.booleans()),
    restart_marker_blocks=draw(st.integers(0, 5)),
    **how,
  )


@st.composite
def boxes(draw, size) -> list[int]:
  """A box y x height width within an image of that height and width."""
  box = [draw(st.integers(0, side - 1)) for side in size]
  return box + [
    draw(st.integers(1, side - start))
    for side, start in zip(size, box, strict=True)
  ]
