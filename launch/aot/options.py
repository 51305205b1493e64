"""Names of XLA's options: whether the compiler knows them, and the nearest."""

import importlib.util
import mmap
import os
import re
import subprocess
import sys

from suite import names

_VARIABLE = 'XLA_FLAGS'
# Flags that are known to be good, so that nobody has to be asked.
_GOOD = re.compile(
  r'(--xla_force_host_platform_device_count=\d{1,4}'
  r'|--xla_gpu_autotune_level=\d|\s)*'
)
# XLA reads its flags as these are made, and aborts on those that it lacks.
_ASK = 'from jaxlib import xla_client; xla_client.CompileOptions()'
_MESSAGE = re.compile(r'^[EF]\d{4} .*?\] (.*)', re.MULTILINE)
_UNKNOWN = re.compile(r'Unknown flags in XLA_FLAGS: (.*)')


def require_known_flags() -> None:
  """ValueError for XLA_FLAGS that would have XLA abort this process.

  Another process reads them first, where it is not known that they are good.
  """
  flags = os.environ.get(_VARIABLE, '')
  if _GOOD.fullmatch(flags):
    return
  done = subprocess.run(
    [sys.executable, '-c', _ASK],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    errors='replace',
  )
  said = _MESSAGE.search(done.stderr)
  if done.returncode and said:
    raise ValueError(f'Environment variable {_VARIABLE}: {_fault(said[1])}')


def nearest(name: str, library: str) -> str:
  """', did you mean ...?' by the names of options in a compiler's library."""
  with (
    open(library, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
  ):
    found = re.findall(rb'xla_[a-z0-9_]{4,80}', content)
  return names.nearest(name, sorted({each.decode() for each in found}))


def _fault(said: str) -> str:
  unknown = _UNKNOWN.search(said)
  if not unknown:
    return said
  (folder,) = importlib.util.find_spec('jaxlib').submodule_search_locations
  library = os.path.join(folder, 'libjax_common.so')
  told = []
  for flag in unknown[1].split():
    name = flag.lstrip('-').partition('=')[0]
    near = nearest(name, library) if os.path.exists(library) else ''
    told.append(f'{flag}{near}')
  return f'the compiler does not know {", ".join(told)}.'
