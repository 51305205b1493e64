"""Figures of compiled programs on the devices here, beside what is possible."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax

from launch.aot import analysis, hlo, roofline, systems, targets, work

Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Machine:
  """The devices of a mesh, and the rates that are known of them."""

  mesh: jax.sharding.Mesh
  system: systems.System | None  # None: no rates are published
  # Operations a second of all devices, as the preflight measured them.
  measured: float | None = None

  @classmethod
  def here(
    cls, mesh: jax.sharding.Mesh, preflight: Mapping[str, Any] | None
  ) -> 'Machine':
    """The machine that the mesh is of; `preflight` as `preflight.run` says."""
    kind = mesh.devices.flat[0].device_kind
    found = (preflight or {}).get('devices', ())
    return cls(
      mesh,
      systems.of_devices(kind, mesh.size),
      1e12 * sum(device['tflops'] for device in found) or None,
    )

  @property
  def is_cpu(self) -> bool:
    """Says that the devices are cores of this machine."""
    return self.mesh.devices.flat[0].platform == 'cpu'

  @property
  def published(self) -> float | None:
    """Operations a second of all chips in bfloat16, as published."""
    return self.system and self.system.flops['bf16'] * self.system.chips

  @property
  def places(self) -> Sequence[roofline.Place]:
    """Places of the devices in the order of the mesh."""
    devices = self.mesh.devices.flat
    if self.system.platform == 'tpu':
      return [targets.place(device, self.system) for device in devices]
    # JAX numbers GPUs host by host.
    spots = [divmod(each.id, self.system.chips_per_host) for each in devices]
    return [roofline.Place(0, host, (host, chip)) for host, chip in spots]


def figures(
  compiled: Any, machine: Machine, *, flops: float | None, seconds: float
) -> Figures:
  """Rates and shares of a program that takes so many seconds.

  Args:
    compiled: `jax.stages.Compiled`.
    machine: that it runs on.
    flops: operations as the model was written, on all devices.
    seconds: of a step.
  """
  known = analysis.facts(compiled)
  module = hlo.Module(known['text'])
  moved = work.traffic(module)
  found: Figures = {
    'memory': analysis.peak(known['memory']),  # bytes on a device
    'traffic': moved,  # bytes on a device
    'traffic_rate': moved / seconds,
    'flops': flops,
    'flops_rate': flops and flops / seconds,
    'of_measured_peak': _share(flops, seconds, machine.measured),
    'of_published_peak': _share(flops, seconds, machine.published),
    'of_memory_rate': None,
    'best': None,
  }
  if machine.system:
    report = analysis.describe(
      known, machine.system, machine.places, dict(machine.mesh.shape)
    )
    roof = roofline.Roofline(**report['roofline'])
    found['of_memory_rate'] = roof.memory / seconds
    found['best'] = {
      **dataclasses.asdict(roof),
      'bound': roof.bound,
      'seconds': roof.overlapped,
      'ratio': roof.overlapped / seconds,
    }
  return found


def allocated() -> int | None:
  """The most bytes that a device of this process has had allocated."""
  found = [device.memory_stats() or {} for device in jax.local_devices()]
  return max(each.get('peak_bytes_in_use', 0) for each in found) or None


def _share(
  flops: float | None, seconds: float, peak: float | None
) -> float | None:
  return flops / seconds / peak if flops and peak else None
