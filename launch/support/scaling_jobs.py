"""The jobs of a scaling study: a description like the given one, per point."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import yaml

from launch.aot import systems
from launch.jobs import description, placing
from launch.support.scaling_plan import Place

_FLAGS = ('benchmark', 'size', 'division')


def placed(place: Place, path: str) -> Place:
  """The point with as many processes as the description gives its hosts."""
  where = _where(place, description.read(path))
  processes = where['hosts'] * where['processes_per_host']
  return dataclasses.replace(place, processes=processes)


def job(place: Place, path: str, runs: int) -> dict[str, Any]:
  """The fields of the job of one point; ValueError where it cannot be."""
  base = description.read(path)
  asked = place.request.identity
  for name in _FLAGS:
    if getattr(base, name) != asked[name]:
      raise ValueError(
        f'Expected {path} with {name} {asked[name]}, as --{name} says, got '
        f'{getattr(base, name)}.'
      )
  values = description.read_fields(path)
  for name in ('batch', *placing.FIELDS):
    values.pop(name, None)
  values |= {
    **_where(place, base),
    'name': f'{base.name}-{place.name}'.replace('_', '-'),
    'output': os.path.join(base.output, place.name),
    'runs': runs,
    'hparams': {**base.hparams, **place.changes},
  }
  description.job(values)  # raises what is wrong with it
  return values


def text(values: Mapping[str, Any]) -> str:
  """The fields as a description's file."""
  return yaml.safe_dump(dict(values), sort_keys=False)


def _where(place: Place, base: description.Job) -> dict[str, Any]:
  """The fields of a job that place it on the devices of a point.

  TPUs are as many slices as the description has; others are whole hosts, or a
  part of one. Processes are as the description has them.
  """
  if base.backend == 'tpu':
    return {**_slices(place, base), 'processes_per_host': 1}
  chips = min(place.devices, base.chips_per_host)
  if place.devices % chips:
    raise ValueError(
      f'Expected devices that fill hosts of {base.chips_per_host} chips, got '
      f'{place.devices}.'
    )
  return {
    'hardware': base.hardware,
    'hosts': place.devices // chips,
    'chips_per_host': chips,
    'processes_per_host': min(base.processes_per_host, chips),
  }


def _slices(place: Place, base: description.Job) -> dict[str, Any]:
  each = base.slices * base.devices_per_chip
  if place.devices % each:
    raise ValueError(
      f'Expected devices that fill {base.slices} slices of {base.hardware}, '
      f'got {place.devices}.'
    )
  system = systems.of_chips(base.hardware, place.devices // each, base.slices)
  found = placing.resolved(placing.Placing(system.name))
  return {'system': found.system, 'hosts': found.hosts}
