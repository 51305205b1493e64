"""A task that learns a line: small enough to run the real loop in a blink."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from suite import hparams
from suite.clock import Clock
from suite.run import blocks as blocks_lib
from suite.run import sharding
from suite.run.feed import Data, SupervisedFeed
from suite.run.run_log import RunLog
from suite.run.task import Task

ROWS = 16


class FakeClock:
  """Seconds that pass only when something asks for the time."""

  def __init__(self, tick: float = 0.001, start: float = 1.7e9):
    self.time = start
    self._tick = tick

  def __call__(self) -> float:
    self.time += self._tick
    return self.time


class FakeTask(Task):
  """y = 3x, from batches of 16 rows; the quality is set by `qualities`."""

  partition_rules = ((r'.*', P()),)
  metrics = ('accuracy',)  # which all have the same quality

  def __init__(self, qualities, *, steps=3, blocks=None, rate=0.1):
    self.optimizer = optax.sgd(rate)
    self.train_specs = self.eval_specs = [
      {
        'x': jax.ShapeDtypeStruct((ROWS,), np.float32),
        'weight': jax.ShapeDtypeStruct((ROWS,), np.float32),
      }
    ]
    self._qualities = iter(qualities)
    self._blocks = blocks or blocks_lib.each_epoch(
      len(qualities), steps=steps, samples=steps * ROWS
    )
    self.opened_at = None
    self.closed_at = []  # at each close: whether the clock ran, seconds on it
    self.trained_rows = []
    self.statistics = {}  # what its feed says of its data

  def init_model(self, key):
    return {'slope': jax.random.normal(key, ())}, {'seen': jnp.zeros(())}

  def loss(self, params, stats, batch, key):
    noise = 0.01 * jax.random.normal(key, batch['x'].shape)
    error = params['slope'] * batch['x'] - 3.0 * batch['x'] + noise
    loss = jnp.mean(batch['weight'] * error**2)
    return loss, ({'seen': stats['seen'] + batch['weight'].sum()}, {})

  def predict(self, state, batch):
    return {'seen': batch['weight'].sum()}

  def score(self, predictions):
    self.evaluated = sum(float(p['seen']) for p in predictions)
    return self.quality()

  def quality(self):
    """The next one."""
    return dict.fromkeys(self.metrics, next(self._qualities))

  def blocks(self, facts):
    return self._blocks

  def open(self, data, facts):
    self.opened_at = data.directory

    def train():
      try:
        for step in itertools.count(data.first_step):
          self.trained_rows.append(step)
          draws = np.random.default_rng((data.seed, step))
          yield self._rows(draws.normal(size=ROWS), np.ones(ROWS))
      finally:
        self.closed_at.append((data.clock.running, data.clock.timed))

    def evaluation():
      for weight in (np.ones(ROWS), np.arange(ROWS) < 4):
        yield self._rows(np.ones(ROWS), weight)

    # Kept, so that nothing but `close` ends its stream.
    self.feed = SupervisedFeed(
      train(),
      evaluation,
      data.put,
      score=lambda predictions: self.score(predictions),
      first_step=data.first_step,
    )
    self.feed.statistics = lambda: self.statistics
    return self.feed

  def _rows(self, x, weight):
    return {'x': x.astype(np.float32), 'weight': weight.astype(np.float32)}


@contextlib.contextmanager
def recorded_compiles(running):
  """Yields a list that gets (running(), event) at every compilation."""
  compiles = []

  def listen(event, duration, **kwargs):
    del duration, kwargs
    if 'compile' in event:
      compiles.append((running(), event))

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield compiles
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def ready(log_path=None, *, now=None):
  """A clock and a log past its settings, as the loop wants them."""
  clock = Clock(now or FakeClock())
  log = RunLog(log_path, clock)
  log.start('init_start', at=clock.created)
  return clock, log


def begun_log(path, clock, declared, size) -> RunLog:
  """A log with the settings of a tiny size, as launch.train writes them."""
  log = RunLog(path, clock)
  log.start('init_start', at=clock.created)
  log.event('cache_clear', True)
  values = {
    'submission_benchmark': declared.name,
    'submission_division': 'closed',
    'submission_org': 'org',
    'submission_platform': 'cpu',
    'submission_status': 'research',
    'podium_size': 'tiny',
    'podium_ruleset': size.ruleset,
    'podium_version': '0.1',
    'seed': 7,
    **hparams.logged(size.hparams),
    'train_samples': size.data.trained(size.hparams),
    'eval_samples': size.data.eval_samples,
  }
  beside = hparams.beside(size.hparams)
  for key, value in values.items():
    log.event(key, value, beside.get(key))
  return log


def data_for(clock, mesh, seed=0) -> Data:
  """Data that the fake task opens; nothing lies there."""
  return Data(
    clock, 'nowhere', seed, lambda rows: sharding.put_rows(rows, mesh)
  )
