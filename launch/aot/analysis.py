"""Report on one compiled program: numbers and words."""

from collections import Counter
from collections.abc import Mapping, Sequence
import re
from typing import Any

from launch.aot import collectives, hlo, roofline, work
from launch.aot.systems import System

Report = dict[str, Any]

_OUT_OF_MEMORY = re.compile(
  r'Used (?P<used>[\d.]+[KMGT]?) of (?P<have>[\d.]+[KMGT]?) hbm'
)
# Of collectives that are shown as one.
_ALIKE = ('kind', 'axis', 'crosses', 'group', 'certain')
_UNITS = {'': 0, 'K': 10, 'M': 20, 'G': 30, 'T': 40}


def facts(compiled: Any) -> Report:
  """Facts about a `jax.stages.Compiled`, as JSON values."""
  stats = compiled.memory_analysis()
  costs = compiled.cost_analysis() or {}
  return {
    'error': '',
    'text': compiled.as_text(),
    'memory': {
      'arguments': stats.argument_size_in_bytes,
      'outputs': stats.output_size_in_bytes,
      'aliased': stats.alias_size_in_bytes,
      'temporaries': stats.temp_size_in_bytes,
      'code': stats.generated_code_size_in_bytes,
    },
    'costs': {name: costs.get(name) for name in ('flops', 'bytes accessed')},
  }


def describe(
  known: Mapping[str, Any],
  system: System,
  places: Sequence[roofline.Place],
  mesh_shape: Mapping[str, int],
) -> Report:
  """A report of a program by its `facts`, or of why there is none.

  `places` are those of the mesh's devices in its order.
  """
  if known['error']:
    return _failed(known['error'])
  module, costs = hlo.Module(known['text']), known['costs']
  operations = work.operations(module)
  moved = work.traffic(module)
  found = collectives.of_module(module, len(places), system.slices)
  sent = [_sent(each, system, places, mesh_shape) for each in found]
  return {
    'compiles': True,
    'why_not': '',
    'memory': memory(known['memory'], system),
    'operations': dict(operations),  # of one device
    'xla_flops': costs.get('flops'),
    'traffic': moved,
    'xla_traffic': costs.get('bytes accessed'),
    'collectives': _summed(sent),
    'roofline': {
      'compute': roofline.compute_seconds(operations, system),
      'memory': roofline.memory_seconds(moved, system),
      'network': sum(each['seconds'] for each in sent),
    },
  }


def memory(parts: Mapping[str, int], system: System) -> Report:
  """Bytes that a program needs on one device at once, and what there is.

  What it takes and gives back in place (donated) is counted once.
  """
  needed, capacity = peak(parts), system.memory_per_device
  return dict(parts) | {
    'peak': needed,
    'capacity': capacity,
    'fits': needed <= capacity,
  }


def peak(parts: Mapping[str, int]) -> int:
  """Bytes at once, of the parts in `facts`."""
  return sum(parts.values()) - 2 * parts['aliased']


def memory_needed(text: str) -> tuple[float, float] | None:
  """(needed, there) bytes of an 'out of memory'; None for other errors."""
  match = _OUT_OF_MEMORY.search(text)
  return (_bytes(match['used']), _bytes(match['have'])) if match else None


def gib(number: float) -> str:
  """Bytes as '9.77', in GiB."""
  value = number / 2**30
  return f'{value:.2f}' if value < 100 else f'{value:.0f}'


def _failed(text: str) -> Report:
  """A report of a program that does not compile."""
  report: Report = {'compiles': False, 'why_not': text.splitlines()[0][:300]}
  if needs := memory_needed(text):
    used, have = needs
    report['why_not'] = f'needs {gib(used)} of {gib(have)} GiB'
    report['memory'] = {'peak': used, 'capacity': have, 'fits': False}
  return report


def _bytes(text: str) -> float:
  unit = text[-1] if text[-1] in _UNITS else ''
  return float(text.removesuffix(unit)) * 2 ** _UNITS[unit]


def _sent(collective, system, places, mesh_shape) -> Report:
  return {
    'kind': collective.kind,
    'axis': collectives.axis_of(collective.groups, mesh_shape),
    'crosses': roofline.crosses(collective, places),
    'group': int(collective.groups.shape[1]),
    'times': collective.times,
    'certain': collective.certain,
    'bytes': collective.bytes * collective.times,
    'seconds': roofline.network_seconds(collective, places, system),
  }


def _summed(sent: Sequence[Report]) -> list[Report]:
  """Collectives of one kind, axis and group summed up; the slowest first."""
  totals: dict[tuple, Counter] = {}
  for each in sent:
    counts = totals.setdefault(tuple(each[n] for n in _ALIKE), Counter())
    counts.update({n: each[n] for n in ('times', 'bytes', 'seconds')})
  rows = [
    {**dict(zip(_ALIKE, key, strict=True)), **counts}
    for key, counts in totals.items()
  ]
  return sorted(rows, key=lambda row: -row['seconds'])
