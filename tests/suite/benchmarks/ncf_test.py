"""Tests of the NCF benchmark; its table is in ncf_spec_test."""

import collections
import dataclasses
import functools
import itertools
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from input_pipelines.movielens import read as movielens
from suite import benchmark
from suite.benchmarks import ncf
from suite.benchmarks.ncf.task import make_task
from suite.clock import Clock
from suite.run import program, sharding
from suite.run.feed import Data
from suite.run.task import Facts

REFERENCE = ncf.BENCHMARK.sizes['reference']
TINY = ncf.BENCHMARK.sizes['tiny']
USERS, ITEMS, PAIRS = 50, 40, 500  # tables of 52 and 40 rows
DATA = benchmark.DataSet('pairs', train_samples=PAIRS, eval_samples=USERS)
SMALL = dataclasses.replace(
  TINY.hparams,
  users=USERS,
  items=ITEMS,
  mf_width=4,
  mlp_layers=(8, 8, 4),
  global_batch_size=512,
  eval_batch_size=32,
  eval_negatives=30,
  table_row_multiple=4,
  max_epochs=2,
)


@functools.cache
def _interactions():
  draws = np.random.default_rng(5)
  pairs = draws.choice(USERS * ITEMS, PAIRS, replace=False)
  keys = movielens.key(pairs // ITEMS, pairs % ITEMS)
  test = draws.integers(0, ITEMS, USERS).astype(np.int32)
  return movielens.Interactions(USERS, ITEMS, np.sort(keys), test)


def _task(**changes):
  return ncf.BENCHMARK.task(dataclasses.replace(SMALL, **changes), DATA)


@functools.cache
def _step(opt_name='lazy_adam'):
  return jax.jit(_task(opt_name=opt_name).train_step)


@functools.cache
def _predict():
  return jax.jit(_task().predict)


@functools.cache
def _state(opt_name='lazy_adam'):
  task = _task(opt_name=opt_name)
  state = jax.jit(lambda seed: task.init(jax.random.key(seed, impl='rbg')))(3)
  # Rows of 0.01 are all nearly alike; these tell users and items apart.
  tables = {name: 100 * t for name, t in state.params['tables'].items()}
  return dataclasses.replace(state, params=state.params | {'tables': tables})


def _batch(seed, rows=512, padding=0):
  draws = np.random.default_rng(seed)
  return {
    'user': draws.integers(0, USERS - 2, rows).astype(np.int32),
    'item': draws.integers(0, ITEMS, rows).astype(np.int32),
    'label': (draws.random(rows) < 0.2).astype(np.float32),
    'weight': (np.arange(rows) < rows - padding).astype(np.float32),
  }


def _logits(state, users, items):
  """In numpy and float64, with nothing shared between pairs."""
  users, items = np.broadcast_arrays(users, items)
  tables, tower = (
    jax.tree.map(np.float64, state.params[part]) for part in ('tables', 'tower')
  )
  user, item = tables['user'][users], tables['item'][items]
  hidden = np.concatenate([user[..., 4:], item[..., 4:]], -1)
  for i in range(2):
    layer = tower['mlp'][i]
    hidden = np.maximum(hidden @ layer['kernel'] + layer['bias'], 0)
  both = np.concatenate([user[..., :4] * item[..., :4], hidden], -1)
  return (both @ tower['final']['kernel'] + tower['final']['bias'])[..., 0]


class RulesTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'opt_name': 'sgd'}, 'one of adam, lazy_adam'),
    ({'eval_batch_size': 0}, 'eval_batch_size to be positive'),
    ({'gradient_accumulation_steps': 3}, 'a divisor of .*got 3 .*is 512'),
    ({'gradient_accumulation_steps': 0}, 'steps to be .*got 0'),
    ({'compute_dtype': 'float16'}, 'compute_dtype to be'),
    ({'mlp_layers': (7, 4)}, 'even'),
    ({'users': 49}, 'users=49'),
  )
  def test_hyperparameters_that_do_not_fit_each_other_are_refused(
    self, changes, says
  ):
    with self.assertRaisesRegex(ValueError, says):
      _task(**changes)


class TrainingTest(parameterized.TestCase):
  def test_evals_come_as_often_as_declared(self):
    blocks = _task(epochs_between_evals=2, max_epochs=5).blocks(Facts())
    one = _task().blocks(Facts())[0]
    self.assertEqual([b.at['epoch_num'] for b in blocks], [2, 4])
    self.assertEqual(blocks[1].start, {'first_epoch_num': 3, 'epoch_count': 2})
    self.assertEqual({b.steps for b in blocks}, {2 * one.steps})
    with self.assertRaisesRegex(ValueError, 'up to max_epochs, got 6'):
      _task(epochs_between_evals=6, max_epochs=5)

  def test_a_block_is_an_epoch_of_all_samples_the_last_batch_padded(self):
    blocks = make_task(REFERENCE.hparams, REFERENCE.data).blocks(Facts())
    self.assertLen(blocks, 20)
    self.assertEqual({b.steps for b in blocks}, {-(-99_308_850 // 2048)})
    self.assertEqual([b.at['epoch_num'] for b in blocks], [*range(1, 21)])

  @parameterized.parameters(0, 100)
  def test_the_loss_is_cross_entropy_over_what_is_no_padding(self, padding):
    state, batch = _state(), _batch(0, padding=padding)
    loss, _ = jax.jit(_task().loss)(state.params, {}, batch, None)
    real = batch['weight'] > 0
    logits = _logits(state, batch['user'], batch['item'])
    each = np.log1p(np.exp(logits)) - batch['label'] * logits
    self.assertAlmostEqual(float(loss), each[real].mean(), places=4)

  def test_padding_moves_nothing(self):
    batch = _batch(1, padding=200)
    other = batch | {
      name: np.where(batch['weight'] > 0, batch[name], 0)
      for name in ('user', 'item', 'label')
    }
    for kind in ('adam', 'lazy_adam'):
      states = [_step(kind)(_state(kind), each)[0] for each in (batch, other)]
      for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        if a.dtype == np.float32:
          np.testing.assert_allclose(a, b, atol=1e-5)

  def test_a_batch_of_nothing_but_padding_has_a_finite_loss(self):
    zeros = {name: np.zeros_like(v) for name, v in _batch(0).items()}
    after, metrics = _step()(_state(), zeros)
    self.assertEqual(float(metrics['loss']), 0)
    self.assertTrue(np.isfinite(after.params['tables']['user']).all())

  def test_the_first_lazy_step_is_adams_and_the_second_rests_absent_rows(self):
    after = {}
    for kind in ('adam', 'lazy_adam'):
      step = _step(kind)
      once, first = step(_state(kind), _batch(0))
      low = _batch(1)
      low['user'] %= 20
      after[kind] = once, step(once, low)[0], float(first['loss'])
    dense, lazy = after['adam'], after['lazy_adam']
    self.assertAlmostEqual(dense[2], lazy[2], places=5)
    for a, b in zip(
      *(jax.tree.leaves(each[0].params) for each in (dense, lazy)), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    rows = [each.params['tables']['user'] for each in (*dense[:2], *lazy[:2])]
    np.testing.assert_array_equal(rows[2][20:], rows[3][20:])
    self.assertFalse(np.array_equal(rows[0][20:48], rows[1][20:48]))

  def test_a_lazy_step_needs_no_memory_that_grows_with_the_tables(self):
    def temporaries(kind, users):
      task = make_task(
        dataclasses.replace(SMALL, opt_name=kind, users=users), DATA
      )
      step = jax.jit(task.train_step, donate_argnums=0)
      shapes = program.abstract_state(task), dict(task.train_specs[0])
      found = step.lower(*shapes).compile().memory_analysis()
      return found.temp_size_in_bytes

    few, many = (temporaries('lazy_adam', n) for n in (1_000, 200_000))
    self.assertLess(many, 1.1 * few)
    # A dense gradient is as large as its table: 200,000 rows of 8 floats.
    self.assertGreater(temporaries('adam', 200_000), 200_000 * 8 * 4)

  @parameterized.parameters('adam', 'lazy_adam')
  def test_tables_split_over_a_model_axis_give_what_one_device_gives(
    self, kind
  ):
    task, state = _task(opt_name=kind), _state(kind)
    mesh = sharding.make_mesh(4)
    kept = sharding.from_rules(state, task.partition_rules, mesh)
    rows, same = sharding.split_rows(mesh), sharding.replicated(mesh)
    step = jax.jit(
      task.train_step, in_shardings=(kept, rows), out_shardings=(kept, same)
    )
    predict = jax.jit(
      task.predict, in_shardings=(kept, rows), out_shardings=same
    )
    split, whole = jax.device_put(state, kept), state
    for seed in range(3):
      batch = _batch(seed, padding=10)
      split, found = step(split, sharding.put_rows(batch, mesh))
      whole, expected = _step(kind)(whole, batch)
      np.testing.assert_allclose(found['loss'], expected['loss'], rtol=1e-5)
    table = split.params['tables']['user']
    self.assertEqual(table.addressable_shards[0].data.shape[0], 52 // 4)
    for a, b in zip(*map(jax.tree.leaves, (split, whole)), strict=True):
      if a.dtype == np.float32:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    first = next(iter(_eval_batches(_candidates())))
    counts = predict(split, sharding.put_rows(first, mesh))
    expected = _predict()(whole, first)
    self.assertEqual(float(counts['users']), 32)
    self.assertEqual(float(counts['hits']), float(expected['hits']))


@functools.cache
def _candidates():
  return movielens.eval_candidates(_interactions(), seed=0, negatives=30)


def _eval_batches(candidates):
  return movielens.eval_batches(_interactions(), candidates, batch_size=32)


def _hits_by_hand(scores, items):
  """Hit rate of users [U, C], the last of C held out; an item at a time."""
  hits = 0
  for of_user, named in zip(scores, items, strict=True):
    best = dict(zip(named.tolist(), of_user.tolist(), strict=True))
    mine = best.pop(int(named[-1]))
    hits += sum(not score < mine for score in best.values()) < 10
  return hits


class EvalTest(parameterized.TestCase):
  def test_hits_are_those_found_one_user_after_the_other(self):
    state, batches = _state(), list(_eval_batches(_candidates()))
    repeats = sum(int((~b['valid']).sum()) for b in batches)
    self.assertGreater(repeats, 100)  # 30 draws of 40 items
    found = [_predict()(state, each) for each in batches]
    expected = 0
    for batch in batches:
      real = batch['weight'] > 0
      users, items = batch['user'][real], batch['item'][real]
      expected += _hits_by_hand(_logits(state, users[:, None], items), items)
    hits = sum(float(each['hits']) for each in found)
    self.assertEqual(hits, expected)
    self.assertBetween(hits, 5, 45)  # neither all nor none
    self.assertEqual(sum(float(each['users']) for each in found), USERS)

  def test_constant_scores_have_no_hits(self):
    state = _state()
    final = jax.tree.map(np.zeros_like, state.params['tower']['final'])
    tower = type(state.params['tower'])(
      dict(state.params['tower']) | {'final': final}
    )
    state = dataclasses.replace(state, params=state.params | {'tower': tower})
    found = [_predict()(state, b) for b in _eval_batches(_candidates())]
    self.assertEqual(_task()._hit_rate(found), {'HR@10': 0.0})

  def test_scores_that_are_no_numbers_have_no_hits(self):
    for value in (np.nan, np.inf):
      tables = {
        name: np.full_like(table, value)
        for name, table in _state().params['tables'].items()
      }
      state = dataclasses.replace(
        _state(), params=_state().params | {'tables': tables}
      )
      found = [_predict()(state, b) for b in _eval_batches(_candidates())]
      self.assertEqual(_task()._hit_rate(found), {'HR@10': 0.0})

  def test_an_item_that_is_drawn_often_counts_once(self):
    # Twenty draws of one better item put it ahead once: rank 2, a hit. Twenty
    # better items are ahead twenty times.
    state = _state()
    scores = _logits(state, np.zeros(ITEMS, int), np.arange(ITEMS))
    order = np.argsort(-scores)
    for drawn, hits in ((order[[0] * 20], 1), (order[:20], 0)):
      items = np.concatenate([drawn, order[30:40], order[25:26]])[None]
      valid = np.ones((1, 31), bool)
      for place in range(1, 20):
        valid[0, place] = items[0, place] != items[0, place - 1]
      batch = {
        'user': np.zeros(1, np.int32),
        'item': items.astype(np.int32),
        'valid': valid,
        'weight': np.ones(1, np.float32),
      }
      found = _predict()(state, batch)
      self.assertEqual(float(found['hits']), hits)

  def test_the_hit_rate_is_over_every_user_or_it_is_an_error(self):
    half = {'hits': 10.0, 'users': 25.0}
    self.assertEqual(_task()._hit_rate([half, half]), {'HR@10': 0.4})
    with self.assertRaisesRegex(RuntimeError, 'over 50 users.*got 25'):
      _task()._hit_rate([half])


def _data(clock, mesh):
  return Data(clock, 'none', 7, lambda rows: sharding.put_rows(rows, mesh))


class FeedTest(absltest.TestCase):
  def _epochs(self, count):
    task = _task(global_batch_size=500)
    rows = task._train_rows(_interactions(), seed=7, threads=0)
    steps = task.blocks(Facts())[0].steps
    for _ in range(count):
      batches = list(itertools.islice(rows, steps))
      columns = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
      pairs = movielens.key(columns['user'], columns['item'])
      yield (
        collections.Counter(pairs[columns['label'] > 0].tolist()),
        (
          collections.Counter(
            pairs[(columns['label'] == 0) & (columns['weight'] > 0)].tolist()
          )
        ),
      )

  def test_every_epoch_has_each_pair_once_and_negatives_of_its_own(self):
    pairs = {*_interactions().keys.tolist()}
    epochs = list(self._epochs(2))
    for positives, negatives in epochs:
      self.assertEqual({*positives}, pairs)
      self.assertEqual({*positives.values()}, {1})
      self.assertEqual(negatives.total(), 4 * PAIRS)
      self.assertEmpty(pairs & {*negatives})
    self.assertNotEqual(epochs[0][1], epochs[1][1])

  def test_candidates_are_found_once_and_stay_on_the_devices(self):
    mesh, clock = sharding.make_mesh(), Clock()
    clock.start()
    load = mock.patch.object(movielens, 'load', lambda d: _interactions())
    distinct = mock.patch.object(
      movielens, 'distinct', side_effect=movielens.distinct
    )
    with load, distinct as found:
      feed = _task().open(_data(clock, mesh), Facts())
      first, again = list(feed.eval_batches()), list(feed.eval_batches())
    self.assertEqual(found.call_count, 1)
    self.assertLen(first, 2)
    for a, b in zip(first, again, strict=True):
      self.assertIs(a['item'], b['item'])
    feed.close()


if __name__ == '__main__':
  absltest.main()
