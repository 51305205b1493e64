"""Hosts, chips and topology of a job, from the table of systems."""

from collections.abc import Iterator
import dataclasses
import math
import re

from launch.aot import systems
from launch.jobs import faults
from suite import names

GPUS, TPUS = tuple(systems.kinds('gpu')), tuple(systems.kinds('tpu'))
HARDWARE = ('cpu', *GPUS, *TPUS)


@dataclasses.dataclass(frozen=True)
class Placing:
  """Fields of a job that say where it runs; None and '' are not given."""

  system: str = ''
  hardware: str = ''
  chips_per_host: int | None = None
  hosts: int | None = None
  slices: int | None = None
  topology: str = ''


FIELDS = tuple(field.name for field in dataclasses.fields(Placing))


def resolved(asked: Placing) -> Placing:
  """The placing with what follows from it; Faults where fields contradict."""
  if asked.system:
    return _of_system(asked, systems.get(asked.system))
  for name in ('hardware', 'chips_per_host'):
    if not getattr(asked, name):
      raise ValueError(f'{name} is needed, or system: v5p-512, h100-64.')
  names.require('hardware', asked.hardware, HARDWARE)
  whole = dataclasses.replace(
    asked, hosts=asked.hosts or 1, slices=asked.slices or 1
  )
  faults.require_none(list(_contradictions(whole)))
  return _slice(whole) if whole.hardware in TPUS else whole


def _of_system(asked: Placing, system: systems.System) -> Placing:
  """The placing of a named system, which other fields only may repeat."""
  per_host = asked.chips_per_host or system.chips_per_host
  found = [] if _holds(system, per_host) else [_wrong_hosts(system, per_host)]
  follows = Placing(
    asked.system,
    system.kind,
    per_host,
    system.chips // per_host,
    system.slices,
    topology(system) if system.platform == 'tpu' else '',
  )
  for name in ('hardware', 'hosts', 'slices', 'topology'):
    given, value = getattr(asked, name), getattr(follows, name)
    if given and given != value:
      found.append(
        f'{name} is {given}, but system {asked.system} has '
        f'{value or "none"}; leave one of them away.'
      )
  faults.require_none(found)
  return follows


def topology(system: systems.System) -> str:
  """Chips along the axes of a slice: '16x16'."""
  return 'x'.join(str(axis) for axis in system.topology)


def _holds(system: systems.System, per_host: int) -> bool:
  """True where hosts of so many chips make the system.

  GPUs come in hosts of fewer than eight, too; of TPUs the largest slice of one
  machine is also made of machines with four chips.
  """
  chips = system.chips // system.slices
  if system.platform == 'gpu':
    return per_host <= system.chips_per_host and chips % per_host == 0
  usual = systems.kinds('tpu')[system.kind]['chips_per_host']
  return per_host == system.chips_per_host or (
    per_host == usual and chips % usual == 0
  )


def _wrong_hosts(system: systems.System, per_host: int) -> str:
  return (
    f'chips_per_host is {per_host}, but a host of {system.name} has '
    f'{system.chips_per_host}.'
  )


def _contradictions(asked: Placing) -> Iterator[str]:
  if asked.hosts % asked.slices:
    yield (
      f'hosts are those of all slices: {asked.hosts} are not to be shared '
      f'evenly by {asked.slices}.'
    )
  if asked.hardware not in TPUS and (asked.slices > 1 or asked.topology):
    yield f'{asked.hardware} has no slices and no topology.'
  if not asked.topology:
    return
  if not re.fullmatch(r'\d{1,4}(x\d{1,4}){1,2}', asked.topology):
    yield f'topology is like 16x16, not {asked.topology!r}.'
    return
  hosts = asked.hosts // asked.slices
  chips = math.prod(int(side) for side in asked.topology.split('x'))
  if chips != hosts * asked.chips_per_host:
    yield (
      f'A slice of topology {asked.topology} has {chips} chips, but '
      f'{names.counted(hosts, "host")} of {asked.chips_per_host} chips have '
      f'{hosts * asked.chips_per_host}.'
    )


def _slice(asked: Placing) -> Placing:
  """The placing with the system that its hosts of TPUs make."""
  chips = asked.hosts // asked.slices * asked.chips_per_host
  system = systems.of_chips(asked.hardware, chips, asked.slices)
  if not _holds(system, asked.chips_per_host):
    raise ValueError(_wrong_hosts(system, asked.chips_per_host))
  if asked.topology and asked.topology != topology(system):
    raise ValueError(
      f'topology is {asked.topology}, but {chips} chips of {asked.hardware} '
      f'are {topology(system)}, system {system.name}.'
    )
  return dataclasses.replace(
    asked, system=system.name, topology=topology(system)
  )
