"""The jobs of a scaling study: a description like the given one, per point."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import yaml

from launch.jobs import description
from launch.support.scaling_plan import Place

_FLAGS = ('benchmark', 'size', 'division')


def placed(place: Place, path: str) -> Place:
  """The point with as many processes as the description gives its hosts."""
  hosts = _hosts(place, description.read(path))
  processes = hosts['hosts'] * hosts['processes_per_host']
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
  values.pop('batch', None)
  values |= {
    **_hosts(place, base),
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


def _hosts(place: Place, base: description.Job) -> dict[str, int]:
  """Whole hosts, or a part of one; processes as the description has them."""
  chips = min(place.devices, base.chips_per_host)
  if place.devices % chips:
    raise ValueError(
      f'Expected devices that fill hosts of {base.chips_per_host} chips, got '
      f'{place.devices}.'
    )
  processes = min(base.processes_per_host, chips)
  return {
    'hosts': place.devices // chips,
    'chips_per_host': chips,
    'processes_per_host': processes,
  }
