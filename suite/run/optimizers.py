"""Optimizers and schedules that optax lacks or defines otherwise.

Every state holds its buffers in a tree like that of the parameters, so the
path of a buffer ends in the path of its parameter and a rule written for one
fits the other. Masks are regular expressions, searched for in that path:
`stages/0/1/conv2/kernel`.

A table of which a batch names few rows has a gradient that is 0 nearly
everywhere. `Rows` holds such a gradient, and a `RowOptimizer` reads and writes
those rows only, so that a step costs what its batch costs, not what the table
does. What optax has and defines as the references do is not here: dense Adam is
`optax.adam`. LAMB has a file of its own.
"""

from collections.abc import Callable
import dataclasses
import operator
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from suite.run import sharding


class MomentumState(NamedTuple):
  """Steps taken, [] int32, and the velocity of every parameter."""

  count: jax.Array
  momentum: Any


class SumsState(NamedTuple):
  """Steps taken, [] int32, and the sum of squares of every parameter."""

  count: jax.Array
  sums: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """The gradient of a table [R, D] in the rows that a batch names; else 0."""

  ids: jax.Array  # int32 [N], ascending, none twice; from R on: no row at all
  values: jax.Array  # [N, D]


class RowOptimizer(NamedTuple):
  """An optimizer for parameters of which some are tables.

  `apply(grads, state, params)` -> the next params and state. `grads` is like
  `params`, with `Rows` in place of the tables. It returns no updates to add:
  those of a table would be as large as the table.
  """

  init: Callable[[Any], Any]
  apply: Callable[[Any, Any, Any], tuple[Any, Any]]


def polynomial_warmup(
  *, base: float, end: float, power: float, warmup_steps: int, decay_steps: int
) -> optax.Schedule:
  """A line from 0 to `base` in `warmup_steps`, then a power of what remains.

  Steps count from 0, so the first update of a warmup has rate 0. The decay
  starts when the warmup ends, not at step 0, and lasts `decay_steps`; from then
  on the rate is `end`.

  This is PolynomialDecayWithWarmup in mlcommons/training,
  retired_benchmarks/resnet-tf2/tensorflow2/lars_util.py, where `power` is 2,
  `end` 1e-4, and `decay_steps` the steps of the run less those of the warmup
  plus one.
  """
  if warmup_steps < 0 or decay_steps < 1:
    raise ValueError(
      'Expected warmup_steps >= 0 and decay_steps >= 1, got '
      f'{warmup_steps} and {decay_steps}.'
    )

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    # With no warmup step 0 is the start of the decay, whose rate is also base.
    warming = base * step / max(warmup_steps, 1)
    done = jnp.clip((step - warmup_steps) / decay_steps, 0.0, 1.0)
    decayed = end + (base - end) * (1 - done) ** power
    return jnp.where(step < warmup_steps, warming, decayed)

  return schedule


def inverse_sqrt_warmup(
  *, base: float, width: int, warmup_steps: int
) -> optax.Schedule:
  """A line from 0 in `warmup_steps`, then falling as the root of the step.

      rate = base width^-0.5 min(1, step / warmup) max(step, warmup)^-0.5

  Steps count from 0, so the first update has rate 0; the highest rate is that
  of step `warmup_steps`, base (width warmup_steps)^-0.5. Recipes that state the
  highest rate pass `base` accordingly.

  This is get_learning_rate in mlcommons/training,
  retired_benchmarks/transformer/tensorflow/transformer_main.py, where `width`
  is that of the model.
  """
  if warmup_steps < 1 or width < 1:
    raise ValueError(
      'Expected warmup_steps and width of at least 1, got '
      f'{warmup_steps} and {width}.'
    )

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    warming = jnp.minimum(1.0, step / warmup_steps)
    falling = 1 / jnp.sqrt(jnp.maximum(step, warmup_steps))
    return base * width**-0.5 * warming * falling

  return schedule


def absolute_polynomial(
  *,
  base: float,
  power: float,
  steps: int,
  warmup_steps: int = 0,
  start_warmup_step: int = 0,
) -> optax.Schedule:
  """A power of what remains of `steps`, whether or not there was a warmup.

      warmup  base (step - start) / warmup_steps
      then    base (1 - min(step, steps) / steps)^power

  Steps count from 0. The warmup lasts while step - start < warmup_steps; its
  start may lie before step 0. Where it ends the rate jumps, for the decay is
  that of a run without one; `polynomial_warmup` decays from there.

  This is create_optimizer in mlcommons/training,
  retired_benchmarks/bert/optimization.py.
  """
  if warmup_steps < 0 or steps < 1:
    raise ValueError(
      'Expected warmup_steps >= 0 and steps >= 1, got '
      f'{warmup_steps} and {steps}.'
    )

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    since = step - start_warmup_step
    warming = base * since / max(warmup_steps, 1)
    decayed = base * (1 - jnp.minimum(step, steps) / steps) ** power
    return jnp.where((since < warmup_steps), warming, decayed)

  return schedule


def exponential_warmup(
  *,
  base: float,
  warmup_steps: int,
  remain_steps: float,
  decay_interval: int,
  decay_steps: int,
  decay_factor: float,
) -> optax.Schedule:
  """From a hundredth of `base` by equal factors, then down in a few steps.

  Updates count from 1: the one of number `warmup_steps` is the first with the
  rate `base`, and from `remain_steps` on, which infinity never reaches, the
  rate is multiplied by `decay_factor` at once and after every `decay_interval`,
  `decay_steps` times in all. A longer warmup ends with `remain_steps`.

  This is WarmupMultiStepLR in mlcommons/training, retired_benchmarks/gnmt,
  pytorch/seq2seq/train/lr_scheduler.py, which is advanced before each update.
  """
  if (
    warmup_steps < 0 or remain_steps < 0 or min(decay_interval, decay_steps) < 1
  ):
    raise ValueError(
      'Expected warmup_steps and remain_steps >= 0, decay_interval and '
      f'decay_steps >= 1, got {warmup_steps}, {remain_steps}, {decay_interval} '
      f'and {decay_steps}.'
    )
  warmup_steps = min(warmup_steps, remain_steps)

  def schedule(count):
    step = jnp.asarray(count, jnp.float32) + 1
    missing = jnp.maximum(warmup_steps - step, 0) / max(warmup_steps, 1)
    falls = 1 + jnp.floor((step - remain_steps) / decay_interval)
    falls = jnp.clip(falls, 0, decay_steps)
    falls = jnp.where(step <= warmup_steps, 0, falls)
    return base * 0.01**missing * decay_factor**falls

  return schedule


def lars(
  schedule: optax.Schedule,
  *,
  weight_decay: float,
  momentum: float,
  eta: float = 0.001,
  epsilon: float = 1e-7,
  skip: str | None,
) -> optax.GradientTransformation:
  """Layer-wise adaptive rates, as in the ResNet reference from v1.0 on.

      trust = eta |w| / (|g| + weight_decay |w| + epsilon)
      v <- momentum v - rate trust (g + weight_decay w)
      w <- w + v

  The norms are of the raw gradient, and where one is 0 trust is 1. The rate is
  inside the buffer, so a change of rate does not rescale past velocity. Paths
  that match `skip` have trust 1 and no decay. `optax.lars` takes its norms
  after the decay and keeps the rate outside the buffer.

  Source: LARSOptimizer in mlcommons/training,
  retired_benchmarks/resnet-tf2/tensorflow2/lars_optimizer.py. There `eta`,
  named eeta, defaults to 0.001, and an epsilon of 0, which is what the log
  reports, is replaced by that of the Keras backend, 1e-7.
  """

  def velocity(skipped, rate, v, g, w):
    if skipped:
      return momentum * v - rate * g
    trust = _trust(g, w, weight_decay=weight_decay, eta=eta, epsilon=epsilon)
    return momentum * v - rate * trust * (g + weight_decay * w)

  _check(momentum=momentum, weight_decay=weight_decay)
  return _momentum(schedule, velocity, skip)


def momentum_sgd(
  schedule: optax.Schedule,
  *,
  momentum: float,
  weight_decay: float = 0.0,
  skip: str | None = None,
) -> optax.GradientTransformation:
  """SGD with the rate inside the momentum buffer, and L2 regularisation.

      v <- momentum v - rate (g + 2 weight_decay w)
      w <- w + v

  The decay is the gradient of `weight_decay * sum(w ** 2)`. The reference adds
  that term to its loss; adding its gradient here is the same update, and leaves
  the loss that is reported free of it. Recipes with `weight_decay / 2 * sum(w
  ** 2)`, as in rounds v0.5 and v0.6, pass half their constant. Paths that match
  `skip` are not decayed.

  Sources in mlcommons/training, retired_benchmarks/resnet-tf2/tensorflow2: the
  Keras SGD that common.py builds, without Nesterov; the factor of two and the
  mask ('bn' not in name) from l2_loss in resnet_runnable.py.
  """

  def velocity(skipped, rate, v, g, w):
    decay = 0.0 if skipped else 2 * weight_decay
    return momentum * v - rate * (g + decay * w)

  _check(momentum=momentum, weight_decay=weight_decay)
  return _momentum(schedule, velocity, skip)


def sum_rows(ids: jax.Array, values: jax.Array, *, table_rows: int) -> Rows:
  """Gradients [N, D] of looked-up rows `ids` [N] -> each row once, summed."""
  count = ids.shape[0]
  order = jnp.argsort(ids, stable=True)
  ids = ids[order]
  is_new = jnp.concatenate([jnp.ones(1, bool), ids[1:] != ids[:-1]])
  place = jnp.cumsum(is_new) - 1  # of each among the distinct ids
  known = {'indices_are_sorted': True}
  summed = jax.ops.segment_sum(values[order], place, count, **known)
  # What stays unused is outside the table, so gathers and scatters skip it.
  unused = table_rows + jnp.arange(count, dtype=ids.dtype)
  return Rows(unused.at[place].set(ids, **known), summed)


def lazy_adam(
  schedule: optax.Schedule, *, beta_1: float, beta_2: float, epsilon: float
) -> RowOptimizer:
  """Adam that leaves the rows that a batch does not name as they are.

      m <- beta_1 m + (1 - beta_1) g
      v <- beta_2 v + (1 - beta_2) g^2
      w <- w - rate (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

  `t` counts steps, not visits of a row. Adam proper moves every row in every
  step, as long as its moments last; this is another optimizer, which the rules
  of some benchmarks allow. Where a batch names every row, both are the same.
  Parameters that are no tables have dense gradients, and Adam proper.
  """
  check_adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)

  def init(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(), zeros())

  def apply(grads, state, params):
    count = optax.safe_increment(state.count)
    rate, steps = schedule(state.count), count.astype(jnp.float32)

    def new(g, w, m, v):
      m = beta_1 * m + (1 - beta_1) * g
      v = beta_2 * v + (1 - beta_2) * jnp.square(g)
      root = jnp.sqrt(v / (1 - beta_2**steps))
      return w - rate * (m / (1 - beta_1**steps)) / (root + epsilon), m, v

    params, mu, nu = _each(new, grads, params, state.mu, state.nu)
    return params, optax.ScaleByAdamState(count, mu, nu)

  return RowOptimizer(init, apply)


def row_sgd(schedule: optax.Schedule) -> RowOptimizer:
  """SGD without momentum, w <- w - rate g; the state is the steps taken."""

  def apply(grads, state, params):
    rate = schedule(state)
    (params,) = _each(lambda g, w: (w - rate * g,), grads, params)
    return params, optax.safe_increment(state)

  return RowOptimizer(lambda params: jnp.zeros([], jnp.int32), apply)


def row_adagrad(
  schedule: optax.Schedule,
  *,
  epsilon: float,
  initial: float = 0.0,
  weight_decay: float = 0.0,
) -> RowOptimizer:
  """Adagrad with a sum of squares for each number.

      g <- g + weight_decay w
      s <- s + g^2
      w <- w - rate g / (sqrt(s) + epsilon)

  This is torch.optim.Adagrad; of a table, a row that no batch names is not
  decayed. `optax.adagrad` has epsilon inside the root.
  """

  def init(params):
    sums = jax.tree.map(lambda w: jnp.full_like(w, initial), params)
    return SumsState(jnp.zeros([], jnp.int32), sums)

  def apply(grads, state, params):
    rate = schedule(state.count)

    def new(g, w, s):
      g = g + weight_decay * w if weight_decay else g
      s = s + jnp.square(g)
      return w - rate * g / (jnp.sqrt(s) + epsilon), s

    params, sums = _each(new, grads, params, state.sums)
    return params, SumsState(optax.safe_increment(state.count), sums)

  return RowOptimizer(init, apply)


def adam_tf(
  schedule: optax.Schedule, *, beta_1: float, beta_2: float, epsilon: float
) -> optax.GradientTransformation:
  """Adam with epsilon beside the root of the moment as it is kept.

      m <- beta_1 m + (1 - beta_1) g
      v <- beta_2 v + (1 - beta_2) g^2
      w <- w - rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

  `optax.adam` and PyTorch from 1.3 on correct v first and add epsilon then, as
  if it were larger here by 1 / sqrt(1 - beta_2^t). This is AdamOptimizer of
  TensorFlow, which the Transformer reference trains with.

  That reference's other choice, LazyAdam, leaves rows of a table alone where
  the gradient is of looked-up rows only. Its one table is also the matrix of
  its softmax, whose gradient names every row; TensorFlow adds up the two into a
  dense gradient, and LazyAdam's update of that is this one. So with a tied
  matrix this is 'lazy_adam' as well; `lazy_adam` is for tables that are only
  looked up.
  """
  check_adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)

  def init(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros(), zeros())

  def update(grads, state, params=None):
    del params
    count = optax.safe_increment(state.count)
    t = count.astype(jnp.float32)
    rate = schedule(state.count)
    rate = rate * jnp.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    mu = optax.tree.update_moment(grads, state.mu, beta_1, 1)
    nu = optax.tree.update_moment(grads, state.nu, beta_2, 2)
    updates = jax.tree.map(
      lambda m, v: -rate * m / (jnp.sqrt(v) + epsilon), mu, nu
    )
    return updates, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def _each(new, grads, *kept):
  """`new(gradient, *leaves)` of each leaf of trees -> as many trees."""
  leaves = jax.tree.map(
    lambda g, *kept: _in_rows(new, g, kept),
    grads,
    *kept,
    is_leaf=lambda x: isinstance(x, Rows),
  )
  whole, one = jax.tree.structure(kept[0]), jax.tree.structure((0,) * len(kept))
  return jax.tree.transpose(whole, one, leaves)


def _in_rows(new, gradient, kept):
  """`new(gradient, *kept)`, in the rows of a table where it has `Rows`."""
  if not isinstance(gradient, Rows):
    return new(gradient, *kept)
  how = {'indices_are_sorted': True, 'unique_indices': True}
  ids = gradient.ids
  old = [x.at[ids].get(mode='fill', fill_value=0, **how) for x in kept]
  return tuple(
    x.at[ids].set(row, mode='drop', **how)
    for x, row in zip(kept, new(gradient.values, *old), strict=True)
  )


def _momentum(schedule, velocity, skip: str | None):
  """An optimizer whose update is the new `velocity(skipped, rate, v, g, w)`."""

  def init(params):
    _skipped(skip, params)  # Fails here, not in the first step.
    return MomentumState(
      jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params)
    )

  def update(grads, state, params=None):
    if params is None:
      raise ValueError(
        'Expected the parameters beside the gradients, got None.'
      )
    rate = schedule(state.count)
    new = jax.tree.map(
      lambda *leaf: velocity(leaf[0], rate, *leaf[1:]),
      _skipped(skip, params),
      state.momentum,
      grads,
      params,
    )
    return new, MomentumState(optax.safe_increment(state.count), new)

  return optax.GradientTransformation(init, update)


def _trust(g, w, *, weight_decay: float, eta: float, epsilon: float):
  """The factor [] on the rate of one tensor, from norms over all of it."""
  w_norm = jnp.sqrt(jnp.sum(jnp.square(w)))
  g_norm = jnp.sqrt(jnp.sum(jnp.square(g)))
  trust = eta * w_norm / (g_norm + weight_decay * w_norm + epsilon)
  return jnp.where((w_norm > 0) & (g_norm > 0), trust, 1.0)


def decay_mask(skip: str | None) -> Callable[[Any], Any]:
  """The `mask` of an optimizer of optax that decays all but some paths.

  The function raises ValueError where `skip` matches no path of the parameters.
  """
  return lambda params: jax.tree.map(operator.not_, _skipped(skip, params))


def _skipped(skip: str | None, params):
  """Bools, in a tree like `params`: True where the path matches."""

  def matches(path, _):
    return skip is not None and bool(re.search(skip, sharding.path_of(path)))

  skipped = jax.tree_util.tree_map_with_path(matches, params)
  if skip is not None and not any(jax.tree.leaves(skipped)):
    raise ValueError(f'Expected {skip!r} to match a parameter path; none does.')
  return skipped


def _check(*, momentum: float, weight_decay: float):
  if not 0 <= momentum < 1 or weight_decay < 0:
    raise ValueError(
      'Expected momentum in [0, 1) and weight_decay >= 0, got '
      f'{momentum} and {weight_decay}.'
    )


def check_adam(*, beta_1: float, beta_2: float, epsilon: float) -> None:
  """ValueError unless moments and steps can stay finite."""
  if not (0 <= beta_1 < 1 and 0 <= beta_2 < 1 and epsilon > 0):
    raise ValueError(
      'Expected beta_1 and beta_2 in [0, 1) and epsilon > 0, got '
      f'{beta_1}, {beta_2} and {epsilon}.'
    )
