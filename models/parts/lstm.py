"""LSTM layers, in one direction or both, over rows of any length.

The cell is that of PyTorch and cuDNN: of four gates,

    c <- sigmoid(f) c + sigmoid(i) tanh(g)
    h <- sigmoid(o) tanh(c)

and all are x U + h V plus one bias or two. The products with x, and in the
backward pass those that give the gradients of U and V, are made for all places
at once; only the product with V is inside the loop over places.
"""

# B rows, T places of a row, F numbers that come in, W width, G gates (4 W).

from collections.abc import Sequence
import dataclasses
import functools

from flax import nnx
import jax
from jax.experimental import rnn
import jax.numpy as jnp

SCAN, CUDNN = 'scan', 'cudnn'


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings that change how a layer is computed, not what it computes.

  Products are of numbers in `dtype`; gates and cells are float32. `remat`
  computes the gates again in the backward pass instead of keeping them.
  `unroll` is the places in one turn of the loop. `kernel` is 'scan', or 'cudnn'
  for NVIDIA's own, which is float32 and does not split over devices.
  """

  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  unroll: int = 1
  kernel: str = SCAN

  def __post_init__(self):
    if self.kernel not in (SCAN, CUDNN) or self.unroll < 1:
      raise ValueError(
        f'Expected the kernel {SCAN!r} or {CUDNN!r} and an unroll of 1 or '
        f'more, got {self.kernel!r} and {self.unroll}.'
      )
    if self.kernel == CUDNN and self.dtype != jnp.float32:
      raise ValueError(
        f'Expected float32 for the kernel {CUDNN!r}, got {self.dtype}.'
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """The state that a place hands to the next."""

  hidden: jax.Array  # [B, W]
  cell: jax.Array  # float32 [B, W]


class LSTM(nnx.Module):
  """One layer in one direction."""

  def __init__(
    self,
    features: int,
    width: int,
    *,
    biases: int = 2,
    kernel_init: nnx.Initializer,
    bias_init: nnx.Initializer,
    second_bias_init: nnx.Initializer | None = None,
    compute: Compute,
    rngs: nnx.Rngs,
  ):
    """`bias_init` is of the first bias; by default the second begins as 0."""
    if biases not in (1, 2):
      raise ValueError(f'Expected one bias or two, got {biases}.')

    def made(init, *shape):
      return nnx.Param(init(rngs.params(), shape, jnp.float32))

    self.input_kernel = made(kernel_init, features, 4 * width)
    self.hidden_kernel = made(kernel_init, width, 4 * width)
    self.input_bias = made(bias_init, 4 * width)
    if biases == 2 and second_bias_init:
      self.hidden_bias = made(second_bias_init, 4 * width)
    elif biases == 2:
      self.hidden_bias = nnx.Param(jnp.zeros(4 * width, jnp.float32))
    self._biases = biases
    self._compute = compute

  @property
  def width(self) -> int:
    """Numbers that a place gives."""
    return self.hidden_kernel.shape[0]

  def start(self, rows: int) -> State:
    """The state of zeros."""
    shape = (rows, self.width)
    return State(jnp.zeros(shape, self._compute.dtype), jnp.zeros(shape))

  def __call__(
    self,
    x: jax.Array,
    lengths: jax.Array | None = None,
    state: State | None = None,
    *,
    reverse: bool = False,
  ) -> tuple[jax.Array, State]:
    """[B, T, F] -> [B, T, W], and the state after the last place.

    With `lengths`, int32 [B], places behind a row's end give zeros and leave
    its state as it is. In reverse a row begins at its end.
    """
    state = self.start(x.shape[0]) if state is None else state
    if self._compute.kernel == CUDNN:
      hidden, state = _cudnn([self], x, lengths, state, reverse=reverse)
      return hidden, State(state.hidden[0], state.cell[0])
    x = x.swapaxes(0, 1)
    is_place = None
    if lengths is not None:
      is_place = jnp.arange(x.shape[0])[:, None] < lengths[None]
    hidden, cell = _recur(
      _How(reverse, self._compute),
      x.astype(self._compute.dtype),
      self.input_kernel[...],
      self.hidden_kernel[...],
      self._bias(),
      is_place,
      state,
    )
    state = State(hidden[0 if reverse else -1], cell)
    if is_place is not None:
      hidden = jnp.where(is_place[..., None], hidden, 0)
    return hidden.swapaxes(0, 1), state

  def step(self, x: jax.Array, state: State) -> State:
    """One place: x [B, F] -> the state after it."""
    dtype = self._compute.dtype
    gates = _product(x, self.input_kernel[...], dtype) + self._bias()[None]
    gates += _product(state.hidden, self.hidden_kernel[...], dtype)
    return _cell(_activated(gates), state.cell, dtype)

  def _bias(self) -> jax.Array:
    bias = self.input_bias[...]
    return bias + self.hidden_bias[...] if self._biases == 2 else bias


class BothWays(nnx.Module):
  """A layer from the start and one from the end, side by side."""

  def __init__(self, features: int, width: int, **how):
    """As of LSTM."""
    self.forward = LSTM(features, width, **how)
    self.backward = LSTM(features, width, **how)
    self._compute = how['compute']

  def __call__(self, x: jax.Array, lengths: jax.Array | None = None):
    """[B, T, F] -> [B, T, 2 W]; see LSTM."""
    if self._compute.kernel == CUDNN:
      state = self.forward.start(x.shape[0])
      return _cudnn([self.forward, self.backward], x, lengths, state)[0]
    ways = (
      self.forward(x, lengths)[0],
      self.backward(x, lengths, reverse=True)[0],
    )
    return jnp.concatenate(ways, axis=-1)


@dataclasses.dataclass(frozen=True)
class _How:
  reverse: bool
  compute: Compute


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recur(how: _How, x, input_kernel, hidden_kernel, bias, is_place, state):
  """x [T, B, F] -> what each place leaves, [T, B, W], and the last cell.

  At places that are none, by `is_place` bool [T, B], the state stays.
  """
  hidden, cells, _ = _run(
    how, x, input_kernel, hidden_kernel, bias, is_place, state
  )
  return hidden, cells[0 if how.reverse else -1]


def _run(how, x, input_kernel, hidden_kernel, bias, is_place, state):
  """States [T, B, W] of all places, and their gates [T, B, G] if kept."""
  dtype = how.compute.dtype
  # Written place by place, so that the loop reads what lies together.
  inputs = (_product(x, input_kernel, dtype) + bias[None, None]).astype(dtype)
  hidden_kernel = hidden_kernel.astype(dtype)

  def place(state, each):
    inputs, is_place = each
    gates = inputs + _product(state.hidden, hidden_kernel, dtype)
    gates = _activated(gates.astype(jnp.float32))
    after = _cell(gates, state.cell, dtype)
    if is_place is not None:
      after = _where(is_place, after, state)
    kept = None if how.compute.remat else gates.astype(dtype)
    return after, (after.hidden, after.cell, kept)

  _, found = jax.lax.scan(
    place, state, (inputs, is_place),
    reverse=how.reverse, unroll=how.compute.unroll,
  )  # fmt: skip
  return found


def _recur_forward(how, x, input_kernel, hidden_kernel, bias, is_place, state):
  hidden, cells, gates = _run(
    how, x, input_kernel, hidden_kernel, bias, is_place, state
  )
  kept = (
    x, input_kernel, hidden_kernel, bias, is_place, state, hidden, cells, gates
  )  # fmt: skip
  return (hidden, cells[0 if how.reverse else -1]), kept


def _recur_backward(how, kept, cotangents):
  (x, input_kernel, hidden_kernel, bias, is_place, state, hidden, cells, gates
   ) = kept  # fmt: skip
  d_hidden, d_cell = cotangents
  dtype = how.compute.dtype
  hidden_before = _shifted(hidden, state.hidden, how.reverse)
  cells_before = _shifted(cells, state.cell, how.reverse)
  if gates is None:
    gates = _product(x, input_kernel, dtype) + bias[None, None]
    gates = gates.astype(dtype) + _product(hidden_before, hidden_kernel, dtype)
    gates = _activated(gates.astype(jnp.float32)).astype(dtype)
  turned = hidden_kernel.T.astype(dtype)

  def place(after, each):
    d_hidden, cell, cell_before, gates, is_place = each
    d_state = State(after.hidden + d_hidden, after.cell)
    d_gates, d_before = _cell_backward(
      gates.astype(jnp.float32), cell, cell_before, d_state
    )
    d_gates = d_gates.astype(dtype)
    d_before = State(
      _product(d_gates, turned, dtype).astype(jnp.float32), d_before
    )
    if is_place is not None:
      d_gates = jnp.where(is_place[:, None], d_gates, 0)
      d_before = _where(is_place, d_before, d_state)
    return d_before, d_gates

  last = State(jnp.zeros_like(state.cell), d_cell)
  d_state, d_gates = jax.lax.scan(
    place, last, (d_hidden, cells, cells_before, gates, is_place),
    reverse=not how.reverse, unroll=how.compute.unroll,
  )  # fmt: skip
  return (
    _product(d_gates, input_kernel.T, dtype).astype(x.dtype),
    _over_places(x, d_gates),
    _over_places(hidden_before, d_gates),
    d_gates.astype(jnp.float32).sum(axis=(0, 1)),
    None,
    State(d_state.hidden.astype(state.hidden.dtype), d_state.cell),
  )


_recur.defvjp(_recur_forward, _recur_backward)


def _product(x: jax.Array, kernel: jax.Array, dtype) -> jax.Array:
  """x [..., F] times a kernel [F, G], float32."""
  return jnp.einsum(
    '...F,FG->...G', x.astype(dtype), kernel.astype(dtype),
    preferred_element_type=jnp.float32,
  )  # fmt: skip


def _over_places(x: jax.Array, gates: jax.Array) -> jax.Array:
  """x [T, B, F] and gates [T, B, G] -> the sum of products [F, G], float32."""
  # Rows that are split over devices stay so, as they would not if places and
  # rows became one dimension.
  return jnp.einsum('TBF,TBG->FG', x, gates, preferred_element_type=jnp.float32)


def _activated(gates: jax.Array) -> jax.Array:
  """Gates [..., G] in the order i, f, g, o, of which g is a tanh.

  The others are sigmoids, as a tanh of half; so all are one operation.
  """
  width = gates.shape[-1] // 4
  half = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5]), width)
  half = jnp.expand_dims(half, range(gates.ndim - 1))
  return jnp.tanh(gates * half) * half + jnp.where(half < 1, 0.5, 0.0)


def _cell(gates: jax.Array, cell: jax.Array, dtype) -> State:
  """The state after a place, of its activated gates [B, G]."""
  i, f, g, o = jnp.split(gates, 4, axis=-1)
  cell = f * cell + i * g
  return State((o * jnp.tanh(cell)).astype(dtype), cell)


def _cell_backward(gates, cell, cell_before, d_state: State):
  """Gradients of a place's gates before activation, and of the cell before."""
  i, f, g, o = jnp.split(gates, 4, axis=-1)
  squashed = jnp.tanh(cell)
  d_cell = d_state.cell + d_state.hidden * o * (1 - jnp.square(squashed))
  d_gates = [
    d_cell * g * i * (1 - i),
    d_cell * cell_before * f * (1 - f),
    d_cell * i * (1 - jnp.square(g)),
    d_state.hidden * squashed * o * (1 - o),
  ]
  return jnp.concatenate(d_gates, axis=-1), d_cell * f


def _where(is_place: jax.Array, new: State, old: State) -> State:
  pick = functools.partial(jnp.where, is_place[:, None])
  return jax.tree.map(pick, new, old)


def _shifted(states: jax.Array, first: jax.Array, reverse: bool) -> jax.Array:
  """States before each place [T, ...]; `first` is the one of the run."""
  if reverse:
    return jnp.concatenate([states[1:], first[None]])
  return jnp.concatenate([first[None], states[:-1]])


def _cudnn(
  layers: Sequence[LSTM], x, lengths, state: State, *, reverse: bool = False
):
  """One layer or, side by side, one forward and one back, by NVIDIA's kernel.

  -> [B, T, W] or [B, T, 2 W], and the states after it [1 or 2, B, W]. The
  weights are those of each layer, then its biases, as rows of gates.
  """
  rows, places, features = x.shape
  if lengths is None:
    lengths = jnp.full(rows, places, jnp.int32)
  if reverse:
    x = _turned(x, lengths)
  kernels, biases = [], []
  for layer in layers:
    kernels += [layer.input_kernel[...].T, layer.hidden_kernel[...].T]
    bias = layer.input_bias[...]
    biases += [bias, jnp.zeros_like(bias)]
    if layer._biases == 2:
      biases[-1] = layer.hidden_bias[...]
  weights = jnp.concatenate([each.ravel() for each in kernels + biases])
  first = [jnp.stack(len(layers) * [s]) for s in (state.hidden, state.cell)]
  hidden, *last = rnn.lstm(
    x, *first, weights, lengths.astype(jnp.int32), features, layers[0].width,
    1, 0.0, len(layers) == 2, jax.lax.Precision.HIGHEST,
  )  # fmt: skip
  if reverse:
    hidden = _turned(hidden, lengths)
  return hidden, State(*last)


def _turned(x: jax.Array, lengths: jax.Array) -> jax.Array:
  """Places [B, T, F] of each row from its end to its start, then padding."""
  places = jnp.arange(x.shape[1])[None]
  back = lengths[:, None] - 1 - places
  return jnp.take_along_axis(
    x, jnp.where(back < 0, places, back)[..., None], axis=1
  )
