"""Mesh, path rules -> shardings, and a host's rows -> global arrays."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

Rules = Sequence[tuple[str, PartitionSpec]]
DATA = 'data'  # the mesh axis that batches are split over


def make_mesh(
  model: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """All devices as [data, model], Auto axes; `model` divides their number.

  `devices` may be given, those of an ahead-of-time topology for one.
  """
  devices = jax.devices() if devices is None else devices
  if len(devices) % model:
    raise ValueError(
      f'A model axis of {model} does not divide {len(devices)} devices.'
    )
  axes = (AxisType.Auto, AxisType.Auto)
  shape = (len(devices) // model, model)
  return jax.make_mesh(shape, (DATA, 'model'), axes, devices=devices)


def path_of(path: Sequence[Any]) -> str:
  """A leaf's place as 'params/stem/conv/kernel'."""
  return jax.tree_util.keystr(tuple(path), simple=True, separator='/')


def from_rules(tree: Any, rules: Rules, mesh: Mesh) -> Any:
  """A NamedSharding for every leaf: the first rule that matches its path.

  Raises ValueError for a leaf that no rule matches, a rule that matches no
  leaf (a typo shards nothing and tells nobody), and a spec that does not fit
  the leaf's shape.
  """
  matched = set()

  def shard(path, leaf):
    name = path_of(path)
    for i, (pattern, spec) in enumerate(rules):
      if re.search(pattern, name):
        matched.add(i)
        _check_fits(name, leaf.shape, spec, mesh)
        return NamedSharding(mesh, spec)
    raise ValueError(f'No partition rule matches {name} {leaf.shape}.')

  shardings = jax.tree_util.tree_map_with_path(shard, tree)
  idle = [rules[i][0] for i in range(len(rules)) if i not in matched]
  if idle:
    raise ValueError(f'Partition rules that match nothing: {idle}.')
  return shardings


def replicated(mesh: Mesh) -> NamedSharding:
  """The same on every device."""
  return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
  """Rows split over the data axis."""
  return NamedSharding(mesh, PartitionSpec(DATA))


def check_batch(name: str, rows: int, mesh: Mesh) -> None:
  """Raises ValueError unless the data axis divides a batch of `rows`."""
  ways = mesh.shape[DATA]
  if rows % ways:
    raise ValueError(
      f'{name} is {rows}, which {ways} devices do not divide; '
      f'the nearest that they do: {max(1, rows // ways) * ways}.'
    )


def put_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """This host's rows of a batch -> global arrays, split over the data axis."""
  sharding = split_rows(mesh)
  return {name: _put(array, sharding) for name, array in rows.items()}


def put_same(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """What every host holds alike -> one global array, on every device."""
  return _put(array, replicated(mesh))


def _put(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
  # With several processes JAX does not see that this transfer is meant.
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_process_local_data(sharding, local)


def _check_fits(name, shape, spec, mesh) -> None:
  if len(spec) > len(shape):
    raise ValueError(f'{name} has shape {shape}; {spec} names more dimensions.')
  for size, axes in zip(shape, spec, strict=False):
    axes = (axes,) if isinstance(axes, str) else axes or ()
    ways = int(np.prod([mesh.shape[axis] for axis in axes]))
    if size % ways:
      raise ValueError(
        f'{name} has shape {shape}; {spec} splits {size} by {ways}.'
      )
