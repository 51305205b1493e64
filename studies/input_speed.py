r"""Training images a second of CPU: ours, tf.data, PyTorch, and the limit.

JAX_PLATFORMS=cpu python studies/input_speed.py \
  --tensorflow_python=/path/to/an/environment/with/tensorflow/bin/python

Every candidate makes batches of 128 random crops, resized to 224 x 224, as
uint8, from the same JPEGs of 104 KB on average, with one thread: imagenet.py
from the JPEGs as they are and with restart markers; tf.data with the operators
of the reference; PyTorch's DataLoader with Pillow. The limit is what
libjpeg-turbo can do: a C program that decodes such crops and does nothing else.

The candidates are processes that take turns. A rate is in images per second of
CPU of a whole process, so other work on the machine disturbs it little; printed
is the median over the rounds, and that of the ratios within a round. A
candidate whose tools are missing is left out, and a line says so.

Ours and tf.data read in the order on disk. A record's place in a shuffled order
takes Grain 5 microseconds among the records of ImageNet, but 120 among so few.
"""

from collections.abc import Callable, Iterator
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from absl import app, flags
import numpy as np

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, _ROOT)

# Nothing of this project is imported up here: the environment that
# TensorFlow is in need not have what it depends on.

_IMAGES = flags.DEFINE_integer('images', 384, 'JPEGs; a turn is one epoch.')
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Turns of each candidate.')
_TENSORFLOW = flags.DEFINE_string(
  'tensorflow_python', '', 'The Python of an environment with TensorFlow.'
)
_CANDIDATE = flags.DEFINE_string('candidate', '', 'Set by the script itself.')
_FOLDER = flags.DEFINE_string('folder', '', 'Set by the script itself.')

_BATCH = 128
_SIZE = 224
_FILE = 'images.bin'
_PROGRAM = 'partial_decode'


def photo(rng: np.random.Generator) -> np.ndarray:
  """Noise with the spectrum of a photograph: uint8, about [375, 500, 3]."""
  sides = (375, 500) if rng.random() < 0.7 else (500, 375)
  height, width = (int(side * rng.uniform(0.85, 1.15)) for side in sides)
  frequency = np.hypot(
    np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
  )
  frequency[0, 0] = np.inf

  def noise(falloff):
    waves = rng.normal(size=(2, *frequency.shape)) / frequency**falloff
    plane = np.fft.irfft2(waves[0] + 1j * waves[1], (height, width))
    return plane / plane.std()

  # Detail enough for 104 KB on average; colour has less of it than light has.
  light = 120 + 48 * noise(1.11)
  red, blue = 14 * noise(1.6), 14 * noise(1.6)
  image = [light + red, light - 0.5 * red - 0.3 * blue, light + blue]
  return np.clip(np.stack(image, -1), 0, 255).astype(np.uint8)


def make_jpegs(count: int) -> list[bytes]:
  """JPEGs of quality 90; of ten, three do not subsample their colour."""
  import simplejpeg

  rng = np.random.default_rng(0)
  return [
    simplejpeg.encode_jpeg(
      photo(rng), 90, 'RGB', '420' if i % 10 < 7 else '444'
    )
    for i in range(count)
  ]


def write_flat(path: str, jpegs: list[bytes]) -> None:
  """All JPEGs in one file, each behind its size and a crop of it."""
  from input_pipelines.imagenet import read as imagenet
  from input_pipelines.images import decode

  sizes = np.array([decode.size(jpeg) for jpeg in jpegs])
  boxes = imagenet.Preprocessing().crops().draw(sizes, seed=1, first=0)
  with open(path, 'wb') as file:
    for jpeg, box in zip(jpegs, boxes, strict=True):
      file.write(struct.pack('=5I', len(jpeg), *box))
      file.write(jpeg)


def read_flat(path: str) -> list[bytes]:
  """The JPEGs of such a file."""
  jpegs = []
  with open(path, 'rb') as file:
    while head := file.read(struct.calcsize('=5I')):
      jpegs.append(file.read(struct.unpack('=5I', head)[0]))
  return jpegs


def podium(folder: str) -> Iterator[np.ndarray]:
  """This project's pipeline on a data set of JPEGs as they are."""
  return _podium(folder, 'plain')


def podium_restart(folder: str) -> Iterator[np.ndarray]:
  """The same on JPEGs with restart markers."""
  return _podium(folder, 'restart')


def _podium(folder: str, name: str) -> Iterator[np.ndarray]:
  from input_pipelines.imagenet import read as imagenet
  from input_pipelines.reading import batching, dataset

  directory = dataset.find(os.path.join(folder, name), imagenet.NAME)
  batches = imagenet.train_batches(
    dataset.Split(directory, 'train'),
    batch_size=_BATCH,
    seed=1,
    preprocessing=imagenet.Preprocessing(image_size=_SIZE),
    shuffle=False,
    reading=batching.Reading(threads=1),
  )
  for batch in batches:
    yield batch['image']


def tf_data(folder: str) -> Iterator[np.ndarray]:
  """The reference's operators on a TFRecord file, in one thread."""
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
  import tensorflow as tf

  path = os.path.join(folder, 'images.tfrecord')
  with tf.io.TFRecordWriter(path) as file:
    for jpeg in read_flat(os.path.join(folder, _FILE)):
      value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg]))
      features = tf.train.Features(feature={'image': value})
      file.write(tf.train.Example(features=features).SerializeToString())
  schema = {'image': tf.io.FixedLenFeature([], tf.string)}

  def image(record):
    jpeg = tf.io.parse_single_example(record, schema)['image']
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(jpeg),
      tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      min_object_covered=0.1,
      aspect_ratio_range=(0.75, 1.33),
      area_range=(0.05, 1.0),
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    box = tf.concat([begin[:2], extent[:2]], 0)
    pixels = tf.io.decode_and_crop_jpeg(jpeg, box, channels=3)
    pixels = tf.image.random_flip_left_right(pixels)
    resized = tf.compat.v1.image.resize(pixels, (_SIZE, _SIZE))
    return tf.cast(resized, tf.uint8)

  options = tf.data.Options()
  options.threading.private_threadpool_size = 1
  options.threading.max_intra_op_parallelism = 1
  images = tf.data.TFRecordDataset(path).repeat()
  images = images.map(image, num_parallel_calls=1)
  batches = images.batch(_BATCH, drop_remainder=True).prefetch(1)
  yield from batches.with_options(options).as_numpy_iterator()


def torch_pillow(folder: str) -> Iterator[np.ndarray]:
  """PyTorch's DataLoader, in this process, with Pillow and its own crop."""
  import io

  from PIL import Image
  import torch

  torch.set_num_threads(1)
  rng = np.random.default_rng(1)

  class Images(torch.utils.data.Dataset):
    def __init__(self):
      self._jpegs = read_flat(os.path.join(folder, _FILE))

    def __len__(self):
      return len(self._jpegs)

    def __getitem__(self, index):
      image = Image.open(io.BytesIO(self._jpegs[index])).convert('RGB')
      image = image.resize(
        (_SIZE, _SIZE), Image.Resampling.BILINEAR, _random_box(image.size, rng)
      )
      if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
      return torch.from_numpy(np.array(image))

  loader = torch.utils.data.DataLoader(
    Images(), _BATCH, shuffle=True, drop_last=True
  )
  while True:
    yield from loader


def _random_box(size, rng) -> tuple[int, ...]:
  """A crop of 8 to 100 % of the area: left, top, right and bottom."""
  width, height = size
  for _ in range(10):
    area = width * height * rng.uniform(0.08, 1)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
      return int(x), int(y), int(x + w), int(y + h)
  return 0, 0, width, height


CANDIDATES: dict[str, Callable[[str], Iterator[np.ndarray]]] = {
  'podium': podium,
  'podium_restart': podium_restart,
  'tf_data': tf_data,
  'torch_pillow': torch_pillow,
}


def take_turns(name: str, folder: str) -> None:
  """A candidate's process: every line it is sent asks for one epoch.

  What it answers is the CPU that it has used since its last answer, so that
  batches made ahead of time are counted too.
  """
  batches = CANDIDATES[name](folder)
  used = time.process_time()
  for _ in sys.stdin:
    for _ in range(_IMAGES.value // _BATCH):
      batch = next(batches)
      assert batch.shape == (_BATCH, _SIZE, _SIZE, 3), batch.shape
    before, used = used, time.process_time()
    print(f'{used - before:.6f}', flush=True)


class Candidate:
  """A process that takes turns; the first turn is not counted."""

  def __init__(self, name: str, command: list[str]):
    self.name = name
    self.rates: list[float] = []
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    self._turn()

  def turn(self) -> None:
    """One epoch; its rate is kept."""
    self.rates.append(_IMAGES.value / self._turn())

  def _turn(self) -> float:
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    answer = self._process.stdout.readline()
    if not answer:
      raise RuntimeError(
        f'Expected CPU seconds from {self.name}, it ended with status '
        f'{self._process.wait()}.'
      )
    return float(answer)

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()


def commands(folder: str) -> dict[str, list[str]]:
  """Commands that start every candidate whose tools are here."""
  pythons = dict.fromkeys(CANDIDATES, sys.executable)
  pythons['tf_data'] = _TENSORFLOW.value
  if not _TENSORFLOW.value:
    _leave_out(pythons, 'tf_data', '--tensorflow_python was not given')
  if not importlib.util.find_spec('torch'):
    _leave_out(pythons, 'torch_pillow', 'there is no torch here')
  if not shutil.which('jpegtran'):
    _leave_out(pythons, 'podium_restart', 'there is no jpegtran')
  found = {
    name: [
      *(python, os.path.abspath(__file__), f'--candidate={name}'),
      *(f'--folder={folder}', f'--images={_IMAGES.value}'),
    ]
    for name, python in pythons.items()
  }
  program = os.path.join(folder, _PROGRAM)
  source = os.path.join(_ROOT, 'benchmarks', f'{_PROGRAM}.c')
  build = ['cc', '-O2', source, '-o', program, '-ljpeg']
  if not shutil.which('cc') or subprocess.run(build).returncode:
    _leave_out({_PROGRAM: ''}, _PROGRAM, 'no cc, or no jpeglib.h for it')
  else:
    found[_PROGRAM] = [program, os.path.join(folder, _FILE)]
  return found


def _leave_out(candidates: dict[str, str], name: str, why: str) -> None:
  del candidates[name]
  print(f'left out: {name}, {why}')


def write_data(folder: str) -> None:
  """The JPEGs in every form that a candidate reads."""
  from input_pipelines.images import restart_markers
  from tests.input_pipelines.imagenet import fake_imagenet

  jpegs = make_jpegs(_IMAGES.value)
  kilobytes = np.array([len(jpeg) for jpeg in jpegs]) / 1000
  low, high = np.percentile(kilobytes, [5, 95])
  print(
    f'{len(jpegs)} JPEGs, mean {kilobytes.mean():.1f} KB, 5 % below '
    f'{low:.0f}, 5 % above {high:.0f}'
  )
  write_flat(os.path.join(folder, _FILE), jpegs)
  fake_imagenet.write(os.path.join(folder, 'plain'), {'train': jpegs})
  if not shutil.which('jpegtran'):
    return
  before = time.perf_counter()
  marked = [restart_markers.transcode(jpeg) for jpeg in jpegs]
  seconds = time.perf_counter() - before
  print(
    f'with restart markers {sum(map(len, marked)) / sum(map(len, jpegs)):.3f} '
    f'of the bytes, {len(jpegs) / seconds:.0f} transcoded a second'
  )
  fake_imagenet.write(os.path.join(folder, 'restart'), {'train': marked})


def show(candidates: list[Candidate]) -> None:
  """A line a candidate: its rate, and its ratios to what matters."""
  rates = {c.name: np.array(c.rates) for c in candidates}
  print(f'{"":16}{"images/s":>9}{"spread":>8}{"/ tf.data":>11}{"/ limit":>9}')
  for name, found in rates.items():
    spread = (np.percentile(found, 75) - np.percentile(found, 25)) / 2
    line = f'{name:16}{np.median(found):9.0f}'
    line += f'{spread / np.median(found):8.1%}'
    for other in ('tf_data', _PROGRAM):
      ratio = np.median(found / rates[other]) if other in rates else np.nan
      line += f'{ratio:{11 if other == "tf_data" else 9}.3f}'
    print(line)


def main(argv) -> None:
  del argv
  if _CANDIDATE.value:
    take_turns(_CANDIDATE.value, _FOLDER.value)
    return
  if _IMAGES.value < _BATCH or _IMAGES.value % _BATCH:
    raise app.UsageError(
      f'Expected --images to be a multiple of {_BATCH}, came {_IMAGES.value}.'
    )
  with tempfile.TemporaryDirectory() as folder:
    write_data(folder)
    candidates = [Candidate(*item) for item in commands(folder).items()]
    for turn in range(_ROUNDS.value):
      print(f'\rround {turn + 1} of {_ROUNDS.value}', end='', flush=True)
      for candidate in candidates:
        candidate.turn()
    print()
    for candidate in candidates:
      candidate.close()
  show(candidates)


if __name__ == '__main__':
  app.run(main)
