"""The costliest operations of a train step, from a profile of a few steps."""

from collections import Counter
from collections.abc import Iterator
import glob
import os
from typing import Any

import jax

from launch.aot import collectives, hlo, roofline, work
from launch.speeds.measured import Meter
from launch.speeds.rates import Machine

_STEPS = 5
_SHOWN = 10
_WARM = 3
_LINE = 'XLA Ops'


def of(meter: Meter, folder: str) -> dict[str, Any]:
  """Profiles train steps of the first shape into a folder, and reads that.

  Operations are told by the names that XLA gave them; what devices or threads
  do at the same time is added up.
  """
  compiled = meter.program.train_step.programs[0]
  state = meter.program.fresh_state(0)
  stream = meter.source.train(0, lambda: state)
  for _ in range(_WARM):
    state, _ = meter.program.train_step(state, next(stream.batches))
  jax.block_until_ready(state)
  with jax.profiler.trace(folder):
    for _ in range(_STEPS):
      state, _ = meter.program.train_step(state, next(stream.batches))
    jax.block_until_ready(state)
  costs = work.costs(hlo.Module(compiled.as_text()))
  found: Counter[str] = Counter()
  for name, seconds in _events(folder):
    if name in costs:
      found[name] += seconds / _STEPS
  whole = sum(found.values())
  note = f'The profile is in {folder}; xprof or Perfetto show it.'
  if not whole:
    note += ' It tells no operations that could be read here.'
  sent = sum(
    seconds
    for name, seconds in found.items()
    if costs[name].opcode.startswith(collectives.KINDS)
  )
  return {
    'folder': folder,
    'note': note,
    'in_collectives': sent / whole if whole else None,
    'operations': [
      _operation(name, seconds, whole, costs[name], meter.machine)
      for name, seconds in found.most_common(_SHOWN)
    ],
  }


def _operation(
  name: str, seconds: float, whole: float, cost: work.Cost, machine: Machine
) -> dict[str, Any]:
  """An operation on one device, beside its part of the roofline."""
  seconds = seconds / len(jax.local_devices())
  possible = None
  if machine.system:
    possible = max(
      roofline.compute_seconds(cost.operations, machine.system),
      roofline.memory_seconds(cost.bytes, machine.system),
    )
  elif machine.measured and cost.operations:
    each = machine.measured / machine.mesh.size
    possible = cost.operations.total() / each
  return {
    'name': name,
    'seconds': seconds,
    'share': seconds * len(jax.local_devices()) / whole,
    'flops': cost.operations.total(),
    'bytes': cost.bytes,
    'of_possible': possible and possible / seconds,
  }


def _events(folder: str) -> Iterator[tuple[str, float]]:
  """Names and seconds of all events in the newest profile of a folder."""
  paths = glob.glob(os.path.join(folder, '**', '*.xplane.pb'), recursive=True)
  profile = jax.profiler.ProfileData.from_file(max(paths, key=os.path.getmtime))
  lines = [line for plane in profile.planes for line in plane.lines]
  # Accelerators have such a line; the kernels of theirs are in others again.
  for line in [line for line in lines if line.name == _LINE] or lines:
    for event in line.events:
      yield event.name, event.duration_ns / 1e9
