"""MiniGo as a task: loss, match, and self-play on the devices."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.self_play import start as minigo_start
from models.minigo import go, self_play
from models.minigo import net as minigo
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.minigo import settings as settings_lib
from suite.benchmarks.minigo.feed import SelfPlayFeed, given_generations
from suite.benchmarks.minigo.hparams import Hparams
from suite.run import blocks
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, Maker
from suite.run.sharding import ROWS
from suite.run.task import (
  Batch,
  Facts,
  PyTree,
  Spec,
  Staged,
  State,
  Task,
  batch_spec,
)


class MinigoTask(Task):
  """Learns moves; the quality is the share of games won in a match."""

  def __init__(self, hp: Hparams, data: DataSet):
    self._hp = hp
    self._data = data
    self._settings = settings_lib.settings(hp)
    # Settings of the games of a random net, if a run bootstraps.
    self._bootstrap = None
    if hp.bootstraps and not hp.start_generation:
      self._bootstrap = self_play.bootstrap(self._settings)
    self._match = settings_lib.match_settings(hp)
    size = settings_lib.net_size(hp)
    self._net = Functional.of(
      lambda rngs: minigo.Minigo(
        size, bn_span=None, dtype=jnp.dtype(hp.compute_dtype), rngs=rngs
      )
    )
    self.optimizer = optax.sgd(_schedule(hp), momentum=hp.momentum)
    self.partition_rules = minigo.PARTITION_RULES
    if hp.opponent == 'target':
      self.frozen = self.given = ['^stats/target/']
    if hp.start_generation:
      self.given = ['^(?!key$)']
    self.parts = hp.gradient_accumulation_steps
    self.tensors = [*minigo.tensor_names(size).values(), 'global_step']
    self.rows_set_by = 'train_batch_size'
    self.train_specs = [_positions(hp.train_batch_size, self._settings)]
    self.eval_specs = [batch_spec(hp.eval_batch_size, game=np.int32)]

  def values(self, spec):
    """See Task."""
    return {
      'planes': Values(0, 256),
      'visits': Values(0, self._hp.num_readouts),
      'ply': Values(0, self._settings.rules.size**2),
      'outcome': Values(-1, 2),
      'symmetry': Values(0, 8),
      'game': Values(0, self._hp.eval_batch_size),
    }

  def init_model(self, key):
    """See Task; the target is given, so that nothing of it is computed."""
    params, stats = self._net.init(key)
    kept = {'net': stats}
    if self._hp.opponent == 'target':
      kept['target'] = {'params': params, 'stats': stats}
    return params, kept

  def loss(self, params, stats, batch, key):
    """Loss of policy and values, and L2; see Task."""
    del key  # nothing random inside the model
    seen = self_play.examples(batch, self._settings)
    (logits, values), net = self._net.apply(
      params, stats['net'], seen.planes, train=True
    )
    losses = minigo.losses(logits, values, seen.pi, seen.outcome)
    l2 = minigo.l2(params, self._hp.l2_strength)
    loss = losses.policy + self._hp.value_cost_weight * losses.value + l2
    metrics = {'policy': losses.policy, 'value': losses.value}
    return loss, ({**stats, 'net': net}, metrics)

  def predict(self, state: State, batch: Batch) -> PyTree:
    """Sums over games by weight: {'wins': [], 'games': []}."""
    key = jax.random.fold_in(state.key, state.step)
    keys = self_play.keys_of(key, batch['game'])
    found = self_play.on_each_device(self._play_match, self.layout.mesh)(
      state, keys
    )
    return {
      'wins': jnp.sum((found.winner > 0) * batch['weight']),
      'games': jnp.sum(batch['weight']),
    }

  def blocks(self, facts) -> list[blocks.Block]:
    """One block for each generation, counted from that of the start.

    The number of steps is known once its games have been played.
    """
    del facts
    hp = self._hp
    return blocks.each_epoch(hp.max_generations, before=hp.start_generation)

  def inspect(self, directory):
    """See Task; there is no data set where a run starts from nothing."""
    if not self.given:
      return Facts()
    if not directory:
      raise ValueError(
        f'Expected a data set to start from, as {minigo_start.NAME}/19x19; '
        'this size has none.'
      )
    start = self._hp.start_generation
    minigo_start.verify(
      directory,
      fields={name: _shape(leaf, 1) for name, leaf in self._kept().items()},
      generations=given_generations(self._hp) if start else (),
      games=self._hp.min_selfplay_games_per_generation,
    )
    # Whose start it is, and whether others have the same.
    return Facts(logged=minigo_start.logged(directory))

  def _kept(self) -> dict[str, Any]:
    """Specs of the fields of a batch that records of positions hold."""
    (spec,) = self.train_specs
    drawn = ('outcome', 'symmetry', 'weight')
    return {name: leaf for name, leaf in spec.items() if name not in drawn}

  def staged(self) -> Mapping[str, Staged]:
    """Programs that start and continue games; see Task.

    If a run bootstraps, the games of its random net have other settings.
    """
    games = jax.eval_shape(
      lambda key: self._begin(key), jax.eval_shape(lambda: jax.random.key(0))
    )
    plays = {'play': self._settings}
    if self._bootstrap:
      plays['bootstrap'] = self._bootstrap
    return {
      'begin': Staged(lambda state, _: self._begin(state.key), {}, result=ROWS),
      **{
        name: Staged(
          self._play(settings),
          games,
          argument=ROWS,
          result=ROWS,
          donated=True,
        )
        for name, settings in plays.items()
      },
    }

  def rehearse(self, state: State, maker: Maker) -> None:
    """See Task."""
    games = maker.call('begin', state, {})
    for name in ('bootstrap', 'play') if self._bootstrap else ('play',):
      games, played = maker.call(name, state, games)
      jax.block_until_ready((games, played))

  def open(self, data: Data, facts: Facts) -> Feed:
    """See Task."""
    del facts
    return SelfPlayFeed(self._hp, self._settings, data)

  def _net_of(self, params, stats) -> self_play.Net:
    return lambda planes: self._net.apply(params, stats, planes, train=False)[0]

  def _begin(self, key: jax.Array) -> self_play.Games:
    places = jnp.arange(self._hp.concurrent_games, dtype=jnp.int32)
    settings = self._bootstrap or self._settings
    return self_play.begin(self_play.keys_of(key, places), settings)

  def _play(self, settings: self_play.Settings):
    """Function `(state, games) -> games, played` with these settings."""

    def play(state, games):
      net = self._net_of(state.params, state.stats['net'])
      return self_play.play(net, games, settings)

    return self_play.on_each_device(play, self.layout.mesh)

  def _play_match(self, state: State, keys: jax.Array):
    net = self._net_of(state.params, state.stats['net'])
    first = self_play.of_net(net, self._match)
    if self._hp.opponent == 'target':
      other = self._net_of(**state.stats['target'])
      second = self_play.of_net(other, self._match)
    else:
      second = self_play.of_playouts(self._match.rules)
    return self_play.match(first, second, keys, self._match)


def _shape(leaf: Any, first: int = 0) -> minigo_start.Shape:
  """dtype and shape of a leaf, its dimensions from `first` on."""
  return np.dtype(leaf.dtype).str, leaf.shape[first:]


def _schedule(hp: Hparams) -> optax.Schedule:
  """Rate of a step: TensorFlow's piecewise constants."""
  return optax.join_schedules(
    [optax.constant_schedule(rate) for rate in hp.lr_rates],
    [boundary + 1 for boundary in hp.lr_boundaries],
  )


def _positions(rows: int, settings: self_play.Settings) -> Spec:
  """Fields of a training batch, as `self_play.examples` takes them."""
  points = settings.rules.size**2
  bits = points * go.PLANES[settings.planes]
  return batch_spec(
    rows,
    planes=(np.uint8, -(-bits // 8)),
    visits=(np.uint16, points + 1),
    ply=np.int16,
    outcome=np.int8,
    symmetry=np.int8,
  )


make_task = MinigoTask
