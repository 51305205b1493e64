"""Tests of NeuMF, with a model in PyTorch as the witness."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from models import ncf
from models.parts import functional
from suite.run import sharding
from tests import quick

SMALL = ncf.Size(9, 7, 3, (8, 6, 5))


def _models(size, dtype=np.float32):
  tables = functional.Functional.of(lambda rngs: ncf.Tables(size, rngs=rngs))
  tower = functional.Functional.of(
    lambda rngs: ncf.Tower(size, dtype=dtype, rngs=rngs)
  )
  return tables, tower


@functools.cache
def _init(size):
  """{'tables': ..., 'tower': ...} of a model with weights that matter."""
  tables, tower = _models(size)
  key = jax.random.key(1, impl='rbg')
  made = quick.jit(tables.init)(key)[0]
  return {
    # A hundred times the spread: products of 0.01 are lost in rounding.
    'tables': {name: 100 * made[name] for name in ('user', 'item')},
    'tower': quick.jit(tower.init)(key)[0],
  }


def _logits(size, params, users, items):
  rows = params['tables']
  tower = _models(size)[1]
  return tower.apply(
    params['tower'], {}, rows['user'][users], rows['item'][items]
  )[0]


def _samples():
  draws = np.random.default_rng(3)
  users, items = draws.integers(0, 9, 32), draws.integers(0, 7, 32)
  return users, items, (draws.random(32) < 0.2).astype(np.float32)


class ParametersTest(parameterized.TestCase):
  def test_there_are_as_many_parameters_as_published_logs_say(self):
    tables, tower = _models(ncf.ML_20M)
    key = jax.random.key(0)
    shapes = [jax.eval_shape(each.init, key)[0] for each in (tables, tower)]
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    self.assertEqual(total, 31_832_577)
    # Three layers of the perceptron and the last one, a kernel and a bias each.
    self.assertLen(jax.tree.leaves(shapes), 2 + 2 * 4)

  def test_tables_start_as_a_normal_of_a_hundredth(self):
    size = dataclasses.replace(SMALL, users=2000, items=3000)
    tables, _ = _models(size)
    made, _ = quick.jit(tables.init)(jax.random.key(0, impl='rbg'))
    for name, rows in (('user', 2000), ('item', 3000)):
      table = np.asarray(made[name])
      self.assertEqual(table.shape, (rows, 3 + 4))
      deviation = 4 / np.sqrt(2 * table.size)
      self.assertLess(abs(table.std() / 0.01 - 1), deviation)
      self.assertLess(abs(table.mean() / 0.01), 2 * deviation)
      self.assertGreater(abs(table).max(), 0.03)  # not truncated
    self.assertFalse(np.array_equal(made['user'][:99], made['item'][:99]))

  def test_layers_start_uniform_within_the_limits_of_the_reference(self):
    _, tower = _models(ncf.ML_20M)
    made, _ = quick.jit(tower.init)(jax.random.key(0, impl='rbg'))
    layers = [*[made['mlp'][i] for i in range(3)], made['final']]
    widths = [(256, 256), (256, 128), (128, 64), (128, 1)]
    for layer, (width, out) in zip(layers, widths, strict=True):
      self.assertEqual(layer['kernel'].shape, (width, out))
      # Glorot's limit but for the last layer, which has LeCun's.
      limit = np.sqrt(6 / (width + out)) if out > 1 else np.sqrt(3 / width)
      for values, bound in (
        (layer['kernel'], limit),
        (layer['bias'], width**-0.5),
      ):
        largest = np.abs(values).max()
        self.assertLessEqual(largest, bound)
        if values.size > 50:
          self.assertGreater(largest, 0.9 * bound)
          self.assertAlmostEqual(
            np.std(values) * np.sqrt(3) / bound, 1, delta=2 / values.size**0.5
          )

  def test_padding_a_table_changes_none_of_its_rows(self):
    padded = dataclasses.replace(SMALL, row_multiple=8)
    key = jax.random.key(0, impl='rbg')
    plain, wide = (_models(size)[0].init(key)[0] for size in (SMALL, padded))
    for name, rows, whole in (('user', 9, 16), ('item', 7, 8)):
      self.assertEqual(wide[name].shape[0], whole)
      np.testing.assert_array_equal(wide[name][:rows], plain[name])
      np.testing.assert_array_equal(wide[name][rows:], 0 * wide[name][rows:])

  @parameterized.parameters(
    ({'users': 0}, 'positive'),
    ({'layers': (8,)}, 'two layers'),
    ({'layers': (7, 4)}, 'even.*got 7'),
  )
  def test_impossible_sizes_are_refused(self, changes, says):
    with self.assertRaisesRegex(ValueError, says):
      dataclasses.replace(SMALL, **changes)


def _peer(size, params):
  """NeuMF in PyTorch as its paper and the reference define it: four tables."""
  torch = pytest.importorskip('torch')

  class Peer(torch.nn.Module):
    def __init__(self):
      super().__init__()
      half = size.layers[0] // 2
      embedding = torch.nn.Embedding
      self.mf_user = embedding(size.users, size.mf_width)
      self.mf_item = embedding(size.items, size.mf_width)
      self.mlp_user = embedding(size.users, half)
      self.mlp_item = embedding(size.items, half)
      self.layers = torch.nn.ModuleList(
        torch.nn.Linear(a, b)
        for a, b in zip(size.layers, size.layers[1:], strict=False)
      )
      self.last = torch.nn.Linear(size.layers[-1] + size.mf_width, 1)

    def forward(self, users, items):
      product = self.mf_user(users) * self.mf_item(items)
      hidden = torch.cat([self.mlp_user(users), self.mlp_item(items)], 1)
      for layer in self.layers:
        hidden = torch.relu(layer(hidden))
      return self.last(torch.cat([product, hidden], 1))[:, 0]

  peer = Peer()
  with torch.no_grad():
    for name, value in _peer_tensors(size, params).items():
      peer.get_parameter(name).copy_(torch.tensor(np.array(value)))
  return peer


def _peer_tensors(size, params):
  """Our parameters by the peer's names and in its shapes."""
  tensors = {}
  for name in ('user', 'item'):
    table = params['tables'][name]
    tensors[f'mf_{name}.weight'] = table[:, : size.mf_width]
    tensors[f'mlp_{name}.weight'] = table[:, size.mf_width :]
  for place, layer in (
    *(
      (f'layers.{i}', params['tower']['mlp'][i])
      for i in range(len(size.layers) - 1)
    ),
    ('last', params['tower']['final']),
  ):
    tensors[f'{place}.weight'] = layer['kernel'].T
    tensors[f'{place}.bias'] = layer['bias']
  return tensors


class PeerTest(absltest.TestCase):
  """Against another implementation with the same weights."""

  def test_logits_are_those_of_pytorch(self):
    torch = pytest.importorskip('torch')
    params = _init(SMALL)
    users, items, _ = _samples()
    theirs = _peer(SMALL, params)(torch.tensor(users), torch.tensor(items))
    ours = quick.jit(functools.partial(_logits, SMALL))(params, users, items)
    self.assertGreater(np.ptp(ours), 1)  # they tell the samples apart
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-6)

  def test_steps_of_dense_adam_are_those_of_pytorch(self):
    torch = pytest.importorskip('torch')
    params = _init(SMALL)
    users, items, labels = _samples()
    peer = _peer(SMALL, params)
    other = torch.optim.Adam(peer.parameters(), lr=0.01, betas=(0.8, 0.95))
    optimizer = optax.adam(0.01, b1=0.8, b2=0.95)

    @quick.jit
    def step(params, opt, users, items, labels):
      def loss(params):
        logits = _logits(SMALL, params, users, items)
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

      value, grads = jax.value_and_grad(loss)(params)
      updates, opt = optimizer.update(grads, opt)
      return optax.apply_updates(params, updates), opt, value

    opt = optimizer.init(params)
    for part in (slice(0, 16), slice(16, 32)):  # rows absent from the second
      batch = users[part], items[part], labels[part]
      params, opt, value = step(params, opt, *batch)
      other.zero_grad()
      logits = peer(torch.tensor(batch[0]), torch.tensor(batch[1]))
      loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.tensor(batch[2])
      )
      loss.backward()
      other.step()
      np.testing.assert_allclose(value, float(loss.detach()), rtol=1e-5)
      for name, ours in _peer_tensors(SMALL, params).items():
        theirs = peer.get_parameter(name).detach()
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


class TowerTest(absltest.TestCase):
  def test_all_pairs_of_users_and_candidates_are_as_one_by_one(self):
    params = _init(SMALL)
    rows, tower = params['tables'], _models(SMALL)[1]
    users = np.asarray([0, 3, 8])
    items = np.asarray([[0, 1, 2, 2], [6, 5, 0, 1], [3, 3, 3, 4]])
    together, _ = quick.jit(
      lambda: tower.apply(
        params['tower'],
        {},
        rows['user'][users][:, None, :],
        rows['item'],
        pick=lambda of_items: of_items[items],
      )
    )()
    alone = _logits(SMALL, params, np.repeat(users, 4), items.ravel())
    np.testing.assert_allclose(together.ravel(), alone, rtol=1e-5, atol=1e-6)

  def test_bfloat16_computes_near_and_keeps_logits_in_float32(self):
    params, (users, items, _) = _init(SMALL), _samples()
    tower, rows = _models(SMALL, dtype=jax.numpy.bfloat16)[1], params['tables']
    near, _ = tower.apply(
      params['tower'], {}, rows['user'][users], rows['item'][items]
    )
    exact = _logits(SMALL, params, users, items)
    self.assertEqual(near.dtype, np.float32)
    self.assertFalse(np.array_equal(near, exact))
    np.testing.assert_allclose(near, exact, atol=0.05 * np.abs(exact).max())


class PartitionTest(parameterized.TestCase):
  def test_tables_split_by_rows_and_the_rest_by_nothing(self):
    mesh = sharding.make_mesh(4)
    size = dataclasses.replace(SMALL, row_multiple=4)
    tables, tower = _models(size)
    key = jax.random.key(0)
    params = {
      'tables': dict(jax.eval_shape(tables.init, key)[0]),
      'tower': jax.eval_shape(tower.init, key)[0],
    }
    state = {'params': params, 'opt': {'mu': params}}
    found = sharding.from_rules(state, ncf.PARTITION_RULES, mesh)
    for kept in (found['params'], found['opt']['mu']):
      for table in kept['tables'].values():
        self.assertEqual(table.spec, P('model', None))
      for leaf in jax.tree.leaves(kept['tower']):
        self.assertEqual(leaf.spec, P())

  def test_a_table_that_the_model_axis_does_not_divide_is_refused(self):
    tables, _ = _models(SMALL)
    params = {'tables': dict(jax.eval_shape(tables.init, jax.random.key(0))[0])}
    with self.assertRaisesRegex(ValueError, 'splits [79] by 2'):
      sharding.from_rules(
        params, ncf.PARTITION_RULES[:1], sharding.make_mesh(2)
      )


if __name__ == '__main__':
  absltest.main()
