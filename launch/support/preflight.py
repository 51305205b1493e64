"""Short benchmark of a system before a run: devices, network, disk.

All of it happens before the clock and touches no data set: what is read from
the disk is a scratch file. Hosts measure at the same time and find the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
import platform
import statistics
import sys
import tempfile
import time
from typing import Any
import zlib

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from suite.results.report import facts
from suite.results.report import format as fmt

SECONDS = 60.0
# A device this much slower than the median of its kind is named.
TOLERANCE = 0.2
_ROUNDS = 5
_BLOCK = 1 << 20
_MEGA = 1e6


@dataclasses.dataclass(frozen=True)
class _Effort:
  """Amount of work for a platform; the whole takes far less than a minute."""

  rows: int  # of the square matrices
  products: int  # one after another, in one timing
  dtype: str
  reduced: int  # bytes that each device brings to the all-reduce
  file: int  # bytes


_ACCELERATOR = _Effort(8192, 8, 'bfloat16', 256 << 20, 512 << 20)
_EFFORTS = {'cpu': _Effort(512, 4, 'float32', 1 << 20, 16 << 20)}


def run(
  mesh: Mesh, directory: str | None, seconds: float = SECONDS
) -> dict[str, Any]:
  """Measures the devices of `mesh`, their network, the disk and the clocks.

  Every process calls it. Parts for which less than a share of `seconds` would
  be left are left out, and named.

  Args:
    mesh: all devices of the run.
    directory: on the disk that the data set is on; a scratch file is written
      there and removed. None, or one that cannot be written to: not measured.
    seconds: budget of the whole.

  Returns:
    Results for the record of the run: plain numbers and text.
  """
  began = time.monotonic()
  effort = _EFFORTS.get(mesh.devices.flat[0].platform, _ACCELERATOR)
  found: dict[str, Any] = {}
  left_out: list[str] = []
  parts: Mapping[str, Callable[[], Any]] = {
    'devices': lambda: _devices(mesh, effort),
    'all_reduce': lambda: _all_reduce(mesh, effort),
    'clock': _clocks,
    'disk': lambda: _disks(directory, effort.file, seconds / 6),
  }
  for name, measure in parts.items():
    # Process 0 decides for all: half of them in a collective would wait.
    if _gathered(np.asarray([time.monotonic() - began]))[0, 0] < seconds / 2:
      found[name] = measure()
    else:
      left_out.append(name)
  return {
    **found,
    'stragglers': stragglers(found.get('devices', ())),
    'left_out': left_out,
    'seconds': time.monotonic() - began,
  }


def is_wanted(mesh: Mesh, asked: bool | None) -> bool:
  """Returns `asked`; by default, whether the devices are not CPUs."""
  if asked is None:
    return mesh.devices.flat[0].platform != 'cpu'
  return asked


def before(
  mesh: Mesh, directory: str, *, strict: bool, told: bool
) -> dict[str, Any]:
  """Runs it before a training run, warns of stragglers, and tells the rest.

  ValueError for stragglers if `strict`.
  """
  found = run(mesh, directory)
  if jax.process_index() == 0:
    if told:
      print('\n'.join(lines(found)), flush=True)
    for straggler in found['stragglers']:
      print(f'warning: slow {straggler}', file=sys.stderr)
  if strict and found['stragglers']:
    raise ValueError(
      'Expected devices of one speed, got slow '
      + '; '.join(found['stragglers'])
    )
  return found


def stragglers(devices: Sequence[Mapping[str, Any]]) -> list[str]:
  """Devices slower than the median of their kind by more than TOLERANCE."""
  by_kind: dict[str, list[Mapping[str, Any]]] = {}
  for device in devices:
    by_kind.setdefault(device['kind'], []).append(device)
  found = []
  for alike in by_kind.values():
    median = statistics.median(device['tflops'] for device in alike)
    for device in alike:
      speed = device['tflops']
      if speed < (1 - TOLERANCE) * median:
        found.append(
          f'device {device["id"]} of process {device["process"]}: {speed:.3g} '
          f'TFLOP/s, {100 * (1 - speed / median):.0f} % below the median of '
          f'{len(alike)}, {median:.3g}'
        )
  return found


def lines(found: Mapping[str, Any]) -> list[str]:
  """Lines for people, one for each part."""
  shown = [f'preflight, {fmt.duration(found["seconds"])}:']
  shown += [f'  {name}: {text}' for name, text in facts.preflight(found)]
  return shown


def _devices(mesh: Mesh, effort: _Effort) -> list[dict[str, Any]]:
  """TFLOP/s of every device, those of a host one after another."""
  mine = [
    device
    for device in mesh.devices.flat
    if device.process_index == jax.process_index()
  ]
  most = _gathered(np.asarray([len(mine)])).max()
  rows = np.zeros((2, most))  # ids + 1, TFLOP/s
  for column, device in enumerate(mine):
    rows[:, column] = device.id + 1, _tflops(device, effort)
  table = _gathered(rows)  # [processes, 2, devices of the host with most]
  kinds = {device.id: device.device_kind for device in mesh.devices.flat}
  return [
    {
      'id': int(number) - 1,
      'process': process,
      'kind': kinds[int(number) - 1],
      'tflops': float(speed),
    }
    for process, columns in enumerate(table)
    for number, speed in columns.T
    if number
  ]


def _tflops(device: jax.Device, effort: _Effort) -> float:
  """The best of several rounds: a hiccup is no straggler."""
  n = effort.rows

  def products(matrix):  # [n, n] -> [n, n]; the scale keeps it finite
    return jax.lax.fori_loop(
      0, effort.products, lambda _, x: (x @ matrix) * (1 / n), matrix
    )

  matrix = jax.device_put(np.ones((n, n), jnp.dtype(effort.dtype)), device)
  compiled = jax.jit(products).lower(matrix).compile()
  best = _best(lambda: jax.block_until_ready(compiled(matrix)))
  return 2 * n**3 * effort.products / best / 1e12


def _all_reduce(mesh: Mesh, effort: _Effort) -> dict[str, Any]:
  """Sums one array of every device over all of them."""
  count = mesh.size
  if count == 1:
    return {'text': 'not measured: one device'}
  flat = Mesh(mesh.devices.reshape(-1), ('all',))
  width = effort.reduced // 4
  split = NamedSharding(flat, PartitionSpec('all'))
  same = NamedSharding(flat, PartitionSpec())
  zeros = jax.jit(
    lambda: jnp.zeros((count, width), jnp.float32), out_shardings=split
  )()
  total = (
    jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=same)
    .lower(zeros)
    .compile()
  )
  best = _best(lambda: jax.block_until_ready(total(zeros)))
  # Hosts time the same operation; the slowest knows how long it took.
  best = float(_gathered(np.asarray([best])).max())
  rate = effort.reduced / best
  return {
    'bytes': effort.reduced,
    'devices': count,
    'seconds': best,
    'algorithm_bytes_per_second': rate,
    'bus_bytes_per_second': rate * 2 * (count - 1) / count,
    'text': (
      f'{effort.reduced / _MEGA:.0f} MB of each of {count} devices in '
      f'{fmt.duration(best)}, {fmt.rate(rate, "B/s")}'
    ),
  }


def _clocks() -> dict[str, Any]:
  """Largest difference of the hosts' clocks: the smallest of rounds."""
  if jax.process_count() == 1:
    return {'text': 'one process, one clock'}
  rounds = []
  for _ in range(2 * _ROUNDS):
    _gathered(np.zeros(1))  # all leave it at nearly the same time
    rounds.append(_gathered(np.asarray([time.time_ns()]))[:, 0])
  apart = np.asarray(rounds)  # [rounds, processes], nanoseconds
  spreads = apart.max(axis=1) - apart.min(axis=1)
  best = apart[int(spreads.argmin())]
  skew = float(spreads.min()) / 1e9
  return {
    'seconds': skew,
    'ahead_of_process_0': [float(t - best[0]) / 1e9 for t in best],
    'text': f'at most {fmt.duration(skew)} apart',
  }


def _disks(directory: str | None, size: int, seconds: float) -> dict[str, Any]:
  """One process of every host reads; the slowest is told."""
  mine = zlib.crc32(platform.node().encode())
  hosts = _gathered(np.asarray([mine]))[:, 0]
  first = list(hosts).index(mine) == jax.process_index()
  rate, cold, why = 0.0, 0.0, 'not the first process of its host'
  if first:
    rate, cold, why = _read_rate(directory, size, seconds)
  told = _gathered(np.asarray([rate, cold]))  # [processes, 2]
  measured = told[told[:, 0] > 0]
  if not len(measured):
    return {'text': f'not measured: {why or "another host could not"}'}
  slowest = measured[measured[:, 0].argmin()]
  warm = '' if slowest[1] else ', from memory: the cache could not be dropped'
  return {
    'bytes_per_second': float(slowest[0]),
    'cold': bool(slowest[1]),
    'hosts': len(measured),
    'text': f'{fmt.rate(float(slowest[0]), "B/s")}, read by one thread{warm}',
  }


def _read_rate(
  directory: str | None, size: int, seconds: float
) -> tuple[float, float, str]:
  """Bytes per second, 1 if read from the disk itself, or why there are none."""
  if not directory or '://' in directory:
    return 0.0, 0.0, 'the data is on no disk of this host'
  try:
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < 4 * size:
      return 0.0, 0.0, f'less than {4 * size / _MEGA:.0f} MB free'
    with _scratch(directory, size, seconds) as file:
      cold = _dropped(file)
      return _timed_read(file, seconds), float(cold), ''
  except OSError as error:
    return 0.0, 0.0, f'{directory} cannot be written to: {error.strerror}'


@contextlib.contextmanager
def _scratch(directory: str, size: int, seconds: float) -> Iterator[Any]:
  """A file without a name on the disk of `directory`, written through to it."""
  block = np.random.default_rng().bytes(_BLOCK)
  deadline = time.monotonic() + seconds
  with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
    for _ in range(max(1, size // _BLOCK)):
      file.write(block)
      if time.monotonic() > deadline:
        break
    os.fsync(file.fileno())
    yield file


def _dropped(file: Any) -> bool:
  """Drops a file from the page cache; returns whether that worked."""
  number = file.fileno()
  if not hasattr(os, 'posix_fadvise'):
    return False
  os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
  try:
    os.preadv(number, [bytearray(1)], 0, os.RWF_NOWAIT)
  except BlockingIOError:
    return True  # it would have to wait for the disk
  except (OSError, AttributeError):
    return False  # the file system does not tell
  return False


def _timed_read(file: Any, seconds: float) -> float:
  buffer = bytearray(_BLOCK)
  file.seek(0)
  began = time.monotonic()
  done = 0
  while count := file.readinto(buffer):
    done += count
    if time.monotonic() - began > seconds:
      break
  return done / max(time.monotonic() - began, 1e-9)


def _best(call: Callable[[], Any]) -> float:
  """Seconds of the fastest of several calls, after one to warm up."""
  call()
  took = []
  for _ in range(_ROUNDS):
    began = time.perf_counter()
    call()
    took.append(time.perf_counter() - began)
  return max(min(took), 1e-9)


def _gathered(mine: np.ndarray) -> np.ndarray:
  """The arrays of all processes, stacked: [processes, ...]."""
  if jax.process_count() == 1:
    return mine[None]
  # As JAX has it by default there are no 64 bits, so as bytes.
  told = multihost_utils.process_allgather(mine.view(np.uint8))
  return np.asarray(told).view(mine.dtype)
