"""Mesh, path rules -> shardings, and a host's rows -> global arrays."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import math
import re
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

Rules = Sequence[tuple[str, PartitionSpec]]
DATA = 'data'  # the mesh axis that batches are split over
ROWS = PartitionSpec(DATA)

# Leaves of fewer elements are not spread: fetching one costs more than it saves
# (64 KiB of float32 stay).
SMALL = 2**14


def make_mesh(
  model: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """All devices as [data, model], Auto axes; `model` divides their number.

  Slices, which a slow network joins, lie one after the other on the data axis,
  and no model axis crosses them. Inside a slice the order is the physical one,
  but for the devices of a host, which stay together: the model axis is inside a
  host where it divides its devices, and so are the rows of a host.

  `devices` may be given, those of an ahead-of-time topology for one.
  """
  devices = jax.devices() if devices is None else devices
  if len(devices) % model:
    raise ValueError(
      f'A model axis of {model} does not divide {len(devices)} devices.'
    )
  slices = _grouped(sorted(devices, key=_slice_of), _slice_of)
  sizes = {len(each) for each in slices}
  if len(sizes) > 1:
    raise ValueError(
      'Expected slices of one size, got some of '
      f'{", ".join(map(str, sorted(sizes)))} devices.'
    )
  if len(slices[0]) % model:
    raise ValueError(
      f'A model axis of {model} would cross slices of {len(slices[0])} devices;'
      ' expected one that divides a slice.'
    )
  axes = (AxisType.Auto, AxisType.Auto)
  placed = np.concatenate([_placed(each, model) for each in slices])
  return Mesh(placed, (DATA, 'model'), axis_types=axes)


def host_share(mesh: Mesh, process: int | None = None) -> tuple[int, int]:
  """`(host, hosts)`: which share of a batch's rows a process feeds.

  Processes that a model axis joins feed the same rows. By default the process
  is this one.
  """
  process = jax.process_index() if process is None else process
  places = collections.defaultdict(set)  # on the data axis, by process
  for (place, _), device in np.ndenumerate(mesh.devices):
    places[device.process_index].add(place)
  if process not in places:
    raise ValueError(
      f'Expected devices of process {process} in the mesh; '
      f'it has those of {sorted(places)}.'
    )
  shares = sorted({tuple(sorted(each)) for each in places.values()})
  sizes = {len(share) for share in shares}
  if len(sizes) > 1 or len(shares) * max(sizes) != mesh.shape[DATA]:
    raise ValueError(
      'Expected processes with equal and separate shares of the data axis; '
      f'the model axis of {mesh.size // mesh.shape[DATA]} gives {shares}.'
    )
  return shares.index(tuple(sorted(places[process]))), len(shares)


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
  return NamedSharding(mesh, ROWS)


def check_batch(name: str, rows: int, mesh: Mesh) -> None:
  """Raises ValueError unless the data axis divides a batch of `rows`."""
  ways = mesh.shape[DATA]
  if rows % ways:
    raise ValueError(
      f'{name} is {rows}, which {ways} devices do not divide; '
      f'the nearest that they do: {max(1, rows // ways) * ways}.'
    )


def check_parts(rows: int, parts: int, group: int, mesh: Mesh) -> None:
  """ValueError if `parts` of a step would cut a device's rows or a group."""
  if parts == 1:
    return
  each = rows // mesh.shape[DATA]
  if each % parts:
    raise ValueError(
      f'A step in {parts} parts does not divide the {each} rows that a '
      f'device has of a train batch of {rows}.'
    )
  if each // parts % group:
    raise ValueError(
      f'A step in {parts} parts has {each // parts} of the {each} '
      f'rows of a device in a part, which would cut groups of {group}.'
    )


def check_groups(name: str, rows: int, group: int, mesh: Mesh) -> None:
  """Raises ValueError if `group` consecutive rows would be on several hosts.

  Hosts whose devices share rows, by a model axis, count as one.
  """
  hosts = [{d.process_index for d in place} for place in mesh.devices]
  each = rows // len(hosts)  # rows of a place on the data axis
  ends = [
    place * each
    for place in range(1, len(hosts))
    if hosts[place] != hosts[place - 1]
  ]
  if any(end % group for end in ends):
    whole = math.gcd(rows, *ends)
    fits = max(n for n in range(1, group) if whole % n == 0)
    raise ValueError(
      f'{name} has groups of {group} rows that would cross hosts, of which '
      f'each has {rows // host_count(mesh)} rows, {whole} of them in a row; '
      f'the largest group below {group} that fits: {fits}. '
      'Ask with groups_across_hosts for groups that cross.'
    )


def host_count(mesh: Mesh) -> int:
  """Hosts with rows of their own; those that a model axis joins are one."""
  return len({frozenset(d.process_index for d in p) for p in mesh.devices})


def spread(tree: Any, shardings: Any, mesh: Mesh) -> Any:
  """`shardings` of `tree`, with what they leave whole split over the data axis.

  Of a leaf, the largest dimension is split that is whole so far and that the
  axis divides. A leaf without one stays as it is, and so does a small one.
  """
  return jax.tree.map(lambda *each: _spread(*each, mesh), tree, shardings)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Places of the arrays inside a train step; by default, wherever XLA likes.

  Trees hold shardings and are like `State.params`, or None.
  """

  mesh: Mesh | None = None
  gathered: Any = None  # parameters, as the loss takes them
  updated: Any = None  # gradients and parameters, as the optimizer takes them
  frozen: Any = None  # like `State.frozen`, as the loss takes it

  @property
  def ways(self) -> int:
    """Devices that the rows of a batch are split over."""
    return self.mesh.shape[DATA] if self.mesh else 1

  def rows(self, array: jax.Array, axis: int) -> jax.Array:
    """`array`, whose dimension `axis` is split as the rows of a batch are."""
    if self.mesh is None:
      return array
    spec = PartitionSpec(*[None] * axis, DATA)
    return jax.lax.with_sharding_constraint(
      array, NamedSharding(self.mesh, spec)
    )

  def for_loss(self, params: Any, part: str | None = None) -> Any:
    """Parameters as the loss takes them: fetched where they were spread.

    `params` are all, or `part` of them, a key at the top.
    """
    return _constrained(params, self.gathered, part)

  def frozen_for_loss(self, frozen: Any) -> Any:
    """Frozen arrays as the loss takes them: fetched where they were spread."""
    return _constrained(frozen, self.frozen, None)

  def for_update(self, tree: Any, part: str | None = None) -> Any:
    """Gradients or parameters, or `part`, as the optimizer takes them."""
    return _constrained(tree, self.updated, part)


def put_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """This host's rows of a batch -> global arrays, split over the data axis."""
  sharding = split_rows(mesh)
  return {name: _put(array, sharding) for name, array in rows.items()}


def put_same(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """Equal arrays of all hosts -> one global array, on every device."""
  return _put(array, replicated(mesh))


def _slice_of(device: Any) -> int:
  return getattr(device, 'slice_index', None) or 0


def _grouped(devices: Sequence[Any], key: Any) -> list[list[Any]]:
  """Devices by `key`, in the order in which it first comes."""
  groups = collections.defaultdict(list)
  for device in devices:
    groups[key(device)].append(device)
  return list(groups.values())


def _placed(devices: Sequence[Any], model: int) -> np.ndarray:
  """The devices of one slice -> [data, model]."""
  shape = (len(devices) // model, model)
  in_order = mesh_utils.create_device_mesh((len(devices),), devices)
  hosts = _grouped(in_order, lambda device: device.process_index)
  if all(len(host) % model == 0 for host in hosts):
    return np.asarray([*itertools.chain(*hosts)], object).reshape(shape)
  return mesh_utils.create_device_mesh(
    shape, devices, allow_split_physical_axes=True
  )


def _spread(leaf: Any, sharding: NamedSharding, mesh: Mesh) -> NamedSharding:
  ways = mesh.shape[DATA]
  spec = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
  named = {
    a
    for axes in spec
    for a in ([axes] if isinstance(axes, str) else axes or ())
  }
  free = [
    i for i, size in enumerate(leaf.shape) if not spec[i] and size % ways == 0
  ]
  if ways == 1 or DATA in named or leaf.size < SMALL or not free:
    return sharding
  spec[max(free, key=lambda i: leaf.shape[i])] = DATA
  return NamedSharding(mesh, PartitionSpec(*spec))


def _constrained(tree: Any, shardings: Any, part: str | None) -> Any:
  if shardings is None:
    return tree
  shardings = shardings if part is None else shardings[part]
  return jax.lax.with_sharding_constraint(tree, shardings)


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
