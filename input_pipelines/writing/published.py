"""Reads published weights: checkpoints of TensorFlow, files of PyTorch.

Neither framework is needed, and nothing that a file holds is executed. Arrays
are read when they are asked for, by the names that they were published under.
Files of the safetensors format are read by `reading.arrays`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import io
import pickle
import struct
from typing import Any, BinaryIO
import zipfile

import google_crc32c
import ml_dtypes
import numpy as np


class Published(Mapping[str, np.ndarray]):
  """Arrays by name, each read by a function of its own."""

  def __init__(self, readers: Mapping[str, Callable[[], np.ndarray]]):
    self._readers = dict(sorted(readers.items()))

  def __getitem__(self, name: str) -> np.ndarray:
    return self._readers[name]()

  def __iter__(self) -> Iterator[str]:
    return iter(self._readers)

  def __len__(self) -> int:
    return len(self._readers)


def renamed(
  found: Mapping[str, np.ndarray], names: Mapping[str, str], source: str
) -> Published:
  """Arrays by our paths, float32, each made when it is asked for.

  Kernels [out, in, height, width], as PyTorch and Caffe2 have them, get their
  channels last.

  Args:
    found: arrays by their names in a published file.
    names: path of ours -> the name in it.
    source: the file, for the ValueError where it lacks one.
  """
  lacks = [name for name in names.values() if name not in found]
  if lacks:
    raise ValueError(
      f'Expected {lacks[0]} and {len(lacks) - 1} other arrays in {source}, got '
      'none.'
    )

  def made(name: str) -> np.ndarray:
    values = np.asarray(found[name], np.float32)
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values

  return Published({
    path: functools.partial(made, name) for path, name in names.items()
  })  # fmt: skip


# -- TensorFlow: an index, which is a LevelDB table of protocol buffers, and
# files of bytes. See tensorflow/core/util/tensor_bundle/ and lib/io/table.

_FOOTER = 48  # bytes: two handles, padding and the magic number
_MAGIC = 0xDB4775248B80FB57
_TRAILER = struct.Struct('<BI')  # of a block: compression, checksum
_MASK = 0xA282EAD8
_TF_DTYPES = {
  1: '<f4', 2: '<f8', 3: '<i4', 4: '|u1', 5: '<i2', 6: '|i1', 9: '<i8',
  10: '?', 14: ml_dtypes.bfloat16, 17: '<u2', 19: '<f2', 22: '<u4', 23: '<u8',
}  # fmt: skip


def tensorflow(prefix: str) -> Published:
  """The variables of a checkpoint, of TensorFlow 1 or 2.

  `prefix` is the path without '.index'. Texts are left out. ValueError for a
  file that is not one, or whose checksums do not hold.
  """
  path = f'{prefix}.index'
  with open(path, 'rb') as file:
    table = file.read()
  try:
    entries = dict(_table(table))
    header = _fields(entries.pop(b''))
    if header.get(2):
      raise ValueError('big-endian numbers')
    shards = header[1][0]
    readers = {}
    for name, message in entries.items():
      entry = _fields(message)
      dtype = _TF_DTYPES.get(entry[1][0])
      # A key that begins with 0 is that of a part of a partitioned variable.
      if dtype is not None and name[0]:
        shard = entry.get(3, [0])[0]
        data = f'{prefix}.data-{shard:05d}-of-{shards:05d}'
        readers[name.decode()] = functools.partial(
          _variable, data, name.decode(), entry, np.dtype(dtype)
        )
  except (ValueError, KeyError, IndexError, struct.error) as error:
    raise ValueError(
      f'Expected the index of a TensorFlow checkpoint in {path}, got {error!r}.'
    ) from None
  return Published(readers)


def _variable(
  path: str, name: str, entry: Mapping[int, Sequence], dtype: np.dtype
) -> np.ndarray:
  if 7 in entry:
    raise ValueError(f'Expected {name!r} in one piece, got it partitioned.')
  dims = _fields(entry[2][0]).get(2, ()) if 2 in entry else ()
  shape = [_fields(each).get(1, [0])[0] for each in dims]
  offset, size = (entry.get(field, [0])[0] for field in (4, 5))
  with open(path, 'rb') as file:
    file.seek(offset)
    data = file.read(size)
  if len(data) != size or _masked(data) != entry[6][0]:
    raise ValueError(
      f'Expected {size} bytes of {name!r} with their checksum at {offset} in '
      f'{path}, got others: the file is damaged.'
    )
  return np.frombuffer(data, dtype).reshape(shape)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Keys and values of a LevelDB table, in order."""
  footer = data[-_FOOTER:]
  if int.from_bytes(footer[-8:], 'little') != _MAGIC:
    raise ValueError('no table')
  _, _, *handle = _varints(footer, 4)
  for _, value in _block(data, *handle):
    yield from _block(data, *_varints(value, 2))


def _block(data: bytes, first: int, size: int) -> Iterator[tuple[bytes, bytes]]:
  block = data[first : first + size]
  compression, checksum = _TRAILER.unpack_from(data, first + size)
  if checksum != _masked(data[first : first + size + 1]):
    raise ValueError('a block with a wrong checksum')
  if compression:
    raise ValueError('a compressed block')
  (restarts,) = struct.unpack('<I', block[-4:])
  file, key = io.BytesIO(block[: -4 * (restarts + 1)]), b''
  while file.tell() < len(file.getbuffer()):
    shared, own, length = (_varint(file) for _ in range(3))
    key = key[:shared] + file.read(own)
    yield key, file.read(length)


def _fields(message: bytes) -> dict[int, list]:
  """The values of a protocol buffer by the number of their field."""
  file, found = io.BytesIO(message), {}
  while file.tell() < len(message):
    number, kind = divmod(_varint(file), 8)
    if kind == 0:
      value = _varint(file)
    elif kind == 2:
      value = file.read(_varint(file))
    elif kind in (1, 5):
      value = int.from_bytes(file.read(8 if kind == 1 else 4), 'little')
    else:
      raise ValueError(f'a field of kind {kind}')
    found.setdefault(number, []).append(value)
  return found


def _varints(data: bytes, count: int) -> list[int]:
  file = io.BytesIO(data)
  return [_varint(file) for _ in range(count)]


def _varint(file: BinaryIO) -> int:
  value = shift = 0
  while True:
    byte = file.read(1)[0]
    value |= (byte & 0x7F) << shift
    shift += 7
    if byte < 0x80:
      return value


def _masked(data: bytes) -> int:
  """TensorFlow's checksum: CRC-32C, rotated, plus a constant."""
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


# -- PyTorch: a pickle of tensors, and their storages beside it, in a ZIP file
# or, before version 1.6, after it in the same file.

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_DTYPES = {
  'FloatStorage': '<f4',
  'DoubleStorage': '<f8',
  'HalfStorage': '<f2',
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': '<i8',
  'IntStorage': '<i4',
  'ShortStorage': '<i2',
  'CharStorage': '|i1',
  'ByteStorage': '|u1',
  'BoolStorage': '?',
}


@dataclasses.dataclass(frozen=True)
class _Tensor:
  dtype: np.dtype
  storage: str
  first: int  # element of the storage
  shape: tuple[int, ...]
  strides: tuple[int, ...]  # elements

  def of(self, data: bytes) -> np.ndarray:
    """The values, given the bytes of the storage."""
    values = np.frombuffer(data, self.dtype)
    last = self.first + sum(
      (size - 1) * stride
      for size, stride in zip(self.shape, self.strides, strict=True)
    )
    if 0 in self.shape:
      return np.zeros(self.shape, self.dtype)
    if min((self.first, *self.strides)) < 0 or last >= len(values):
      raise ValueError(
        f'Expected elements up to {last} in the storage {self.storage}, got '
        f'{len(values)}.'
      )
    return np.lib.stride_tricks.as_strided(
      values[self.first :],
      self.shape,
      [stride * self.dtype.itemsize for stride in self.strides],
      writeable=False,
    )


def pytorch(path: str) -> Published:
  """The tensors of a file that `torch.save` wrote.

  Those in dicts and lists have names like 'model/0/conv1.weight'; other values
  are left out. ValueError for a file that holds anything but plain values and
  tensors: nothing of it is executed.
  """
  try:
    if zipfile.is_zipfile(path):
      with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (pickled,) = (name for name in names if name.endswith('/data.pkl'))
        folder = pickled.removesuffix('data.pkl')
        order = f'{folder}byteorder'
        if order in names and archive.read(order) != b'little':
          raise ValueError('big-endian numbers')
        found = _Unpickler(io.BytesIO(archive.read(pickled))).load()

      def read(tensor):
        with zipfile.ZipFile(path) as archive:
          return tensor.of(archive.read(f'{folder}data/{tensor.storage}'))

    else:
      found, places = _pickled(path)

      def read(tensor):
        with open(path, 'rb') as file:
          file.seek(places[tensor.storage])
          (elements,) = struct.unpack('<q', file.read(8))
          return tensor.of(file.read(elements * tensor.dtype.itemsize))

    tensors = dict(_named(found, ''))
  except (
    pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile,
  ) as error:  # fmt: skip
    raise ValueError(
      f'Expected a file of tensors, as torch.save writes it, in {path}, got '
      f'{error!r}.'
    ) from None
  return Published(
    {name: functools.partial(read, each) for name, each in tensors.items()}
  )


def _pickled(path: str) -> tuple[Any, dict[str, int]]:
  """Content of a file from before 1.6, and where each storage begins."""
  with open(path, 'rb') as file:
    if _Unpickler(file).load() != _TORCH_MAGIC:
      raise ValueError('another file')
    _Unpickler(file).load()  # the version of the protocol
    if not _Unpickler(file).load()['little_endian']:
      raise ValueError('big-endian numbers')
    found = _Unpickler(file)
    value, places = found.load(), {}
    for key in _Unpickler(file).load():
      places[key] = file.tell()
      (elements,) = struct.unpack('<q', file.read(8))
      file.seek(elements * found.dtypes[key].itemsize, io.SEEK_CUR)
  return value, places


def caffe2(path: str) -> Published:
  """The arrays of a pickle of Caffe2's `blobs`, as Detectron writes it.

  Other values are left out. ValueError for a file that holds anything but plain
  values and NumPy arrays of numbers: nothing of it is executed.
  """
  try:
    with open(path, 'rb') as file:
      found = _ArrayUnpickler(file, encoding='latin1').load()
    blobs = found.get('blobs', found)
    arrays = {
      name: each for name, each in blobs.items() if isinstance(each, np.ndarray)
    }
  except (
    pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError,
    TypeError, ValueError,
  ) as error:  # fmt: skip
    raise ValueError(
      f"Expected a pickle of Caffe2's blobs in {path}, got {error!r}."
    ) from None
  return Published(
    {name: functools.partial(np.copy, each) for name, each in arrays.items()}
  )


class _ArrayUnpickler(pickle.Unpickler):
  """Knows arrays and plain values, and refuses to look up anything else."""

  def find_class(self, module: str, name: str) -> Any:
    # The module was renamed; files of Python 2 have its older name.
    module = module.replace('numpy._core', 'numpy.core')
    known = {
      ('numpy.core.multiarray', '_reconstruct'): _empty_array,
      ('numpy.core.multiarray', 'scalar'): _number,
      ('numpy', 'ndarray'): np.ndarray,
      ('numpy', 'dtype'): np.dtype,
      ('_codecs', 'encode'): _encoded,
      ('collections', 'OrderedDict'): OrderedDict,
    }
    if (module, name) not in known:
      raise ValueError(f'{module}.{name}, which is not read')
    return known[module, name]


def _empty_array(kind: Any, *_: Any) -> np.ndarray:
  if kind is not np.ndarray:
    raise ValueError(f'{kind!r}, which is not read')
  return np.ndarray((0,), np.uint8)


def _number(dtype: np.dtype, data: Any) -> Any:
  if dtype.hasobject:
    raise ValueError(f'{dtype}, which is not read')
  return np.frombuffer(_encoded(data, 'latin1'), dtype, 1)[0]


def _encoded(text: str | bytes, encoding: str) -> bytes:
  return text if isinstance(text, bytes) else text.encode(encoding)


class _Unpickler(pickle.Unpickler):
  """Knows tensors and plain values, and refuses to look up anything else."""

  def __init__(self, file: BinaryIO):
    super().__init__(file, encoding='utf-8')
    self.dtypes: dict[str, np.dtype] = {}  # by storage

  def find_class(self, module: str, name: str) -> Any:
    known = {
      ('collections', 'OrderedDict'): OrderedDict,
      ('torch', 'Size'): tuple,
      ('torch._utils', '_rebuild_parameter'): lambda tensor, *_: tensor,
      ('torch._utils', '_rebuild_tensor_v2'): _rebuilt,
    }
    if module == 'torch' and name in _TORCH_DTYPES:
      return np.dtype(_TORCH_DTYPES[name])
    if (module, name) not in known:
      raise ValueError(f'{module}.{name}, which is not read')
    return known[module, name]

  def persistent_load(self, pid: Any) -> tuple[np.dtype, str]:
    kind, dtype, key, *_ = pid
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise ValueError(f'{kind!r}, which is not read')
    self.dtypes[key] = dtype
    return dtype, key


def _rebuilt(storage, first, shape, strides, *_) -> _Tensor:
  return _Tensor(*storage, first, tuple(shape), tuple(strides))


def _named(value: Any, name: str) -> Iterator[tuple[str, _Tensor]]:
  if isinstance(value, _Tensor):
    yield name, value
  inside = ()
  if isinstance(value, Mapping):
    inside = value.items()
  elif isinstance(value, (list, tuple)):
    inside = enumerate(value)
  for key, each in inside:
    yield from _named(each, f'{name}/{key}' if name else str(key))
