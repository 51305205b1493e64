"""Order of records and batches: one stream for any threads and any hosts.

A stream is the list of positions 0, 1, 2, ...; position p belongs to global
batch p // batch_size, and host h of H holds the h-th of H equal runs of rows of
every batch. Which record stands at a position depends on the seed alone, so a
batch depends on the seed and its step alone: not on threads, not on the number
of hosts, and not on where a restarted run began.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import math
import os
import pathlib
import shutil
import sys

import grain
import numpy as np

from input_pipelines.reading.settings import DEFAULT_READING, Reading

Batch = dict[str, np.ndarray]

# What becomes of the batch that the last records of an epoch do not fill.
MIXED, PADDED, DROPPED = 'mixed', 'padded', 'dropped'

# Decoding drops Python's lock, everything around it does not: past this many
# threads one process gains little, and each holds a batch in memory.
_MOST_THREADS = 16
_AHEAD_PER_PROCESS = 2  # batches
_ALIGNMENT = 64  # bytes
# Batches that were made and never fetched are removed by the tracker of shared
# memory, which then warns of a leak. It gets its filters with its start.
_TRACKER = 'ignore::UserWarning:multiprocessing.resource_tracker'


def rounded_up(rows: int, multiple: int) -> int:
  """The least multiple that holds so many rows."""
  return -(-rows // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Share:
  """The rows of every global batch that fall to one host."""

  batch_size: int  # over all hosts
  host: int = 0
  hosts: int = 1

  def __post_init__(self):
    if self.hosts < 1 or not 0 <= self.host < self.hosts:
      raise ValueError(
        f'Expected a host in [0, hosts), got host {self.host} of '
        f'{self.hosts} hosts.'
      )
    if self.batch_size < 1 or self.batch_size % self.hosts:
      raise ValueError(
        f'Expected a global batch size that {self.hosts} hosts share evenly, '
        f'got {self.batch_size}.'
      )

  @property
  def rows(self) -> int:
    """Rows of a batch on this host."""
    return self.batch_size // self.hosts

  def first(self, step: int) -> int:
    """The position in the stream of this host's first row of a batch."""
    return step * self.batch_size + self.host * self.rows


@dataclasses.dataclass(frozen=True)
class Rows:
  """One host's rows of one batch: positions [first, first + B)."""

  first: int
  records: np.ndarray  # int64 [B], the record at each position
  weight: np.ndarray  # float32 [B], 0 where the row is padding


def training_rows(
  records: int,
  share: Share,
  *,
  seed: int,
  shuffle: bool = True,
  last: str = MIXED,
) -> grain.MapDataset:
  """The rows of step 0, 1, 2, ... without end, in epochs of fresh order.

  Every epoch holds every record once, less those that are dropped.

  Args:
    records: the number of records of the split.
    share: this host's part of a batch.
    seed: in [0, 2**32).
    shuffle: False keeps the order on disk, for measuring what shuffling does.
    last: the batch that an epoch does not fill. MIXED: it holds the start of
      the next epoch too. PADDED: its other rows repeat the epoch's first ones
      with weight 0. DROPPED: there is none.

  Returns:
    A `MapDataset` of `Rows`, by step.
  """
  if not 0 <= seed < 2**32:
    raise ValueError(f'Expected a seed in [0, 2**32), got {seed}.')
  if records < 1:
    raise ValueError(f'Expected records to train on, got {records}.')
  order = grain.MapDataset.range(records)
  if shuffle:
    # `seed` hashes: seeds 7 and 8 do not share epochs, as they would if they
    # were handed to `shuffle` (which adds the epoch's number to its seed).
    order = order.seed(seed).shuffle()
  order = order.repeat()

  steps_per_epoch = last != MIXED and steps_of(records, share, last)

  def rows(step: int) -> Rows:
    first = share.first(step)
    places = first + np.arange(share.rows)
    weight = np.ones(share.rows, np.float32)
    if steps_per_epoch:
      epoch, done = divmod(step, steps_per_epoch)
      of_epoch = share.first(done) + np.arange(share.rows)
      weight = (of_epoch < records).astype(np.float32)
      places = epoch * records + of_epoch % records
    taken = [order[p] for p in places.tolist()]
    return Rows(first, np.asarray(taken), weight)

  steps = sys.maxsize // share.batch_size
  return grain.MapDataset.range(steps).map(rows)


def steps_of(records: int, share: Share, last: str) -> int:
  """Steps of an epoch whose last batch is PADDED or DROPPED; not 0."""
  size = share.batch_size
  steps = records // size if last == DROPPED else -(-records // size)
  if not steps:
    raise ValueError(
      f'Expected a batch of {records} or less, as many as an epoch has, got '
      f'{size}, of which none is whole.'
    )
  return steps


def evaluation_rows(records: int, share: Share) -> grain.MapDataset:
  """The rows that visit every record once, in the order on disk.

  All hosts get the same number of batches; what is left of the last ones is
  padding of weight 0, which repeats the last record's number.
  """

  def rows(step: int) -> Rows:
    first = share.first(step)
    positions = np.arange(first, first + share.rows)
    weight = (positions < records).astype(np.float32)
    return Rows(first, np.minimum(positions, records - 1), weight)

  steps = -(-records // share.batch_size)
  return grain.MapDataset.range(steps).map(rows)


def batches(
  rows: grain.MapDataset,
  read: Callable[[Rows], Batch],
  *,
  first_step: int = 0,
  reading: Reading = DEFAULT_READING,
) -> Iterator[Batch]:
  """Reads the rows of `first_step` and on, a few batches ahead.

  Args:
    rows: a `MapDataset` of `Rows`, by step.
    read: makes a batch of rows; called from several threads at once. Processes
      get a copy of it, so what it holds must be picklable then.
    first_step: at which a resumed run starts.
    reading: by how many threads and processes.

  Returns:
    An iterator of batches with a method `close`, which ends its threads and
    processes; they also end with it.
  """
  if first_step < 0:
    raise ValueError(f'Expected a first step from 0 on, got {first_step}.')
  threads = default_threads() if reading.threads is None else reading.threads
  if reading.processes:
    threads = max(1, threads // reading.processes)
  # A buffer of one batch a thread keeps all of them at work; Grain's default of
  # 500 elements would be 500 batches here.
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  rest = rows.slice(slice(first_step, len(rows)))
  stream = rest.map(read).to_iter_dataset(options)
  if not reading.processes:
    return iter(stream)
  if _TRACKER not in sys.warnoptions:
    sys.warnoptions.append(_TRACKER)
  workers = grain.MultiprocessingOptions(
    reading.processes, per_worker_buffer_size=_AHEAD_PER_PROCESS
  )
  return iter(stream.mp_prefetch(workers))


def require_shared_memory(
  reading: Reading, batch_bytes: int, folder: str = '/dev/shm'
) -> None:
  """Raises ValueError unless the batches of worker processes have room."""
  if not reading.processes or not os.path.isdir(folder):
    return
  needed = reading.processes * (_AHEAD_PER_PROCESS + 1) * batch_bytes
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise ValueError(
      f'Expected {needed / 1e6:,.0f} MB free in {folder} for '
      f'--input_processes={reading.processes}, got {free / 1e6:,.0f} MB: make '
      'it larger (docker run --shm-size=..., or mount -o remount,size=...), or '
      'read with threads, --input_processes=0.'
    )


def zeros(shape: Sequence[int], dtype: type[np.generic]) -> np.ndarray:
  """Zeros, where a CPU that computes can use them without a copy.

  XLA takes over an array on the host that begins at a multiple of 64 bytes;
  NumPy's own begin 16 bytes behind one.
  """
  size = math.prod(shape) * np.dtype(dtype).itemsize
  room = np.zeros(size + _ALIGNMENT, np.uint8)
  first = -room.ctypes.data % _ALIGNMENT
  return room[first : first + size].view(dtype).reshape(shape)


def default_threads() -> int:
  """The cores this process may use, or 16 if they are more."""
  return min(cores(), _MOST_THREADS)


def cores(proc: str = '/proc', cgroups: str = '/sys/fs/cgroup') -> int:
  """The cores that this process may use: by its affinity and its cgroups.

  A quota of 2.5 cores counts as 3. `proc` and `cgroups` are where the kernel
  tells of processes and of groups in their second version.
  """
  allowed = os.cpu_count() or 1
  if hasattr(os, 'sched_getaffinity'):
    allowed = len(os.sched_getaffinity(0))
  try:
    lines = pathlib.Path(proc, 'self', 'cgroup').read_text().splitlines()
  except OSError:
    return allowed
  mine = next((line[3:] for line in lines if line.startswith('0::')), '/')
  group = pathlib.Path(cgroups, mine.strip('/'))
  # A group is within the limits of those around it.
  for each in (group, *group.parents[: mine.strip('/').count('/') + 1]):
    try:
      quota, period = (each / 'cpu.max').read_text().split()
      allowed = min(allowed, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # there is none, or it is 'max'
      continue
  return max(allowed, 1)
