"""System of a run: hardware, versions, source.

Facts that a machine does not report are left out; `launch.package` asks.
"""

import collections
import functools
import glob
import os
import platform
import shutil
import subprocess
from typing import Any

import jax

from input_pipelines.reading import batching


def describe(storage: str = '.') -> dict[str, Any]:
  """The system, as one flat table of text and numbers.

  `storage` is a path on the disk that the data is read from.
  """
  devices = jax.devices()
  return {
    'host': platform.node(),
    'processor': _processor(),
    'cores': os.cpu_count(),
    'usable_cores': batching.cores(),  # by this process
    **_sockets(),
    **_frequency(),
    **_caches(),
    'memory_gib': round(_memory_bytes() / 2**30, 1),
    **_disk(storage),
    'accelerator': devices[0].device_kind,
    'platform': devices[0].platform,
    'devices': len(devices),
    'devices_per_process': jax.local_device_count(),
    'processes': jax.process_count(),
    **(_nvidia() if devices[0].platform == 'gpu' else {}),
    'operating_system': f'{platform.system()} {platform.release()}',
    **_distribution(),
    'python': platform.python_version(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
  }


def _processor() -> str:
  names = _cpuinfo().get('model name')
  return names[0] if names else platform.processor() or platform.machine()


@functools.cache
def _cpuinfo() -> dict[str, list[str]]:
  """Fields of /proc/cpuinfo for each logical processor; {} without the file."""
  found = collections.defaultdict(list)
  for line in _read('/proc/cpuinfo').splitlines():
    name, _, value = line.partition(':')
    found[name.strip()].append(value.strip())
  return found


def _sockets() -> dict[str, int]:
  """Sockets, and the cores of all of them without hyperthreads."""
  info = _cpuinfo()
  sockets, cores = info.get('physical id'), info.get('core id')
  if not sockets or not cores or len(sockets) != len(cores):
    return {}
  pairs = set(zip(sockets, cores, strict=True))
  return {'sockets': len(set(sockets)), 'physical_cores': len(pairs)}


def _frequency() -> dict[str, int]:
  """The highest clock, where the kernel knows it: in a guest it may not."""
  khz = _read('/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq')
  return {'max_mhz': int(khz) // 1000} if khz.isdigit() else {}


def _caches() -> dict[str, str]:
  """'L1d 32K, L1i 32K, L2 1024K, L3 32768K', as one core sees them."""
  caches = []
  for folder in sorted(glob.glob('/sys/devices/system/cpu/cpu0/cache/index*')):
    level, kind, size = (
      _read(os.path.join(folder, name)) for name in ('level', 'type', 'size')
    )
    letter = {'Data': 'd', 'Instruction': 'i'}.get(kind, '')
    if level and size:
      caches.append(f'L{level}{letter} {size}')
  return {'caches': ', '.join(caches)} if caches else {}


def _disk(path: str) -> dict[str, Any]:
  """Size and kind of the disk under a path; the kind where Linux tells it."""
  try:
    size = shutil.disk_usage(path).total
    device = os.stat(path).st_dev
  except OSError:
    return {}
  found: dict[str, Any] = {'storage_gib': round(size / 2**30)}
  link = f'/sys/dev/block/{os.major(device)}:{os.minor(device)}'
  place = os.path.realpath(link)
  for folder in (place, os.path.dirname(place)):  # a partition, then its disk
    name = os.path.basename(folder)
    rotates = _read(os.path.join(folder, 'queue', 'rotational'))
    if rotates and name.startswith('nvme'):
      return {**found, 'storage': 'NVMe'}
    if rotates and name.startswith('sd'):  # virtual disks say anything
      return {**found, 'storage': 'hard disk' if rotates == '1' else 'SSD'}
  return found


def _nvidia() -> dict[str, str]:
  """Facts from nvidia-smi on the first GPU; {} without one."""
  names = {
    'accelerator_model': 'name',
    'accelerator_memory': 'memory.total',
    'accelerator_clock': 'clocks.max.sm',
    'accelerator_pcie_generation': 'pcie.link.gen.max',
    'accelerator_pcie_lanes': 'pcie.link.width.max',
    'accelerator_driver': 'driver_version',
  }
  query = f'--query-gpu={",".join(names.values())}'
  try:
    out = subprocess.run(
      ('nvidia-smi', query, '--format=csv,noheader'),
      check=True,
      capture_output=True,
      text=True,
      timeout=30,
    ).stdout
  except (OSError, subprocess.SubprocessError):
    return {}
  values = [value.strip() for value in out.partition('\n')[0].split(',')]
  if len(values) != len(names):
    return {}
  found = dict(zip(names, values, strict=True))
  return {name: v for name, v in found.items() if v and not v.startswith('[')}


def _distribution() -> dict[str, str]:
  try:
    return {'distribution': platform.freedesktop_os_release()['PRETTY_NAME']}
  except (OSError, KeyError):
    return {}


def _read(path: str) -> str:
  """Content of a small file of the kernel's; '' if it does not exist."""
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read().strip()
  except OSError:
    return ''


def _memory_bytes() -> int:
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  except (ValueError, OSError):
    return 0
