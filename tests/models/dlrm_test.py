"""Tests of DLRM and DLRM-DCNv2 against the reference and PyTorch.

Numbers of DLRM come from DLRM_Net of facebookresearch/dlrm at 6d75c84d
(dlrm_s_pytorch.py, with the sparse gradients coalesced), run by torch 2.13 on a
CPU with these weights and batches. What torchrec adds to DLRM-DCNv2 is put
together here of PyTorch's own layers.
"""

import functools

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from models import dlrm
from models.parts.functional import Functional
from models.parts.tables import Tables
from suite.run import optimizers
from tests import quick

SIZES, WIDTH, COUNTS, ROWS = (3, 50, 7, 20), 8, 5, 12
HOT = (1, 3, 2, 4)


def _weights(layers):
  draws = np.random.RandomState(3)
  tables = [draws.normal(0, 0.5, (n, WIDTH)) for n in SIZES]
  drawn = [
    (draws.normal(0, 0.4, (out, into)), draws.normal(0, 0.3, out))
    for into, out in layers
  ]
  return [t.astype(np.float32) for t in tables], [
    (w.astype(np.float32), b.astype(np.float32)) for w, b in drawn
  ]


def _batch(seed, lookups=(1, 1, 1, 1)):
  draws = np.random.RandomState(100 + seed)
  counts = np.log1p(draws.exponential(1, (ROWS, COUNTS))).astype(np.float32)
  ids = [
    draws.randint(0, n, (ROWS, k)) for n, k in zip(SIZES, lookups, strict=True)
  ]
  label = (draws.rand(ROWS) < 0.4).astype(np.float32)
  return {
    'dense': counts,
    'ids': np.concatenate(ids, 1).astype(np.int32),
    'label': label,
  }


class _Trained:
  """A model of ours with given weights, and steps of it."""

  def __init__(self, size, tables, layers, rows):
    self.size, self._rows = size, rows
    self._model = Functional.of(lambda rngs: dlrm.Interaction(size, rngs=rngs))
    store, small = size.tables.packed(tables)
    whole, self._stats = quick.jit(self._model.init)(
      jax.random.key(0, impl='rbg')
    )
    whole = {**whole, **layers, 'small': small}
    self.params = {'store': store, 'whole': whole}
    self._opt = {k: rows.init(v) for k, v in self.params.items()}

  @functools.cached_property
  def _step(self):
    tables = self.size.tables

    def loss(whole, large, batch):
      logits = self._model.apply(
        whole, self._stats, batch['dense'], batch['ids'], large
      )[0]
      each = optax.sigmoid_binary_cross_entropy(logits, batch['label'])
      return each.mean(), logits

    def update(stores, ids, gradient):
      store, opt = stores
      summed = optimizers.sum_rows(ids, gradient, table_rows=len(store))
      return self._rows.apply(summed, opt, store)

    @quick.jit
    def step(params, opt, batch):
      large, plan = tables.lookup(params['store'], batch['ids'])
      gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
      (value, logits), (of_whole, of_large) = gradient(
        params['whole'], large, batch
      )
      whole, of_whole = self._rows.apply(
        of_whole, opt['whole'], params['whole']
      )
      store, of_store = tables.update(
        (params['store'], opt['store']), plan, of_large, update
      )
      after = {'store': store, 'whole': whole}
      return after, {'store': of_store, 'whole': of_whole}, value, logits

    return step

  def step(self, batch):
    """Trains; returns the loss and the logits before."""
    self.params, self._opt, loss, logits = self._step(
      self.params, self._opt, batch
    )
    return float(loss), np.asarray(logits)

  def logits(self, batch):
    return np.asarray(self._step(self.params, self._opt, batch)[3])

  def tables(self):
    store, small = self.params['store'], self.params['whole']['small']
    return [self.size.tables.table(t, store, small) for t in range(4)]


def _linear(weight, bias=None):
  made = {'kernel': jnp.asarray(weight).T}
  return made if bias is None else made | {'bias': jnp.asarray(bias)}


def _listed(layers):
  return {n: _linear(*layer) for n, layer in enumerate(layers)}


class DlrmTest(absltest.TestCase):
  """Tables of 3 and 7 rows are small, those of 20 and 50 large."""

  size = dlrm.Size(Tables(SIZES, (1,) * 4, WIDTH, 10), COUNTS, (16, 8), (12, 1))

  def trained(self):
    tables, layers = _weights(((5, 16), (16, 8), (18, 12), (12, 1)))
    named = {'bottom': _listed(layers[:2]), 'top': _listed(layers[2:])}
    rows = optimizers.row_sgd(optax.constant_schedule(0.5))
    return _Trained(self.size, tables, named, rows)

  def test_scores_losses_and_three_steps_are_those_of_the_reference(self):
    model = self.trained()
    first = jax.nn.sigmoid(model.logits(_batch(0)))
    np.testing.assert_allclose(
      first,
      [
        0.4883665, 0.3133981, 0.5557327, 0.5289843, 0.6264222, 0.5589828,
        0.5709516, 0.6016414, 0.5749417, 0.5977308, 0.6597794, 0.281372,
      ],
      rtol=1e-6,
    )  # fmt: skip
    losses = [model.step(_batch(seed))[0] for seed in range(3)]
    np.testing.assert_allclose(
      losses, [0.5962370038, 0.7848940492, 0.8876730800], rtol=1e-6
    )
    np.testing.assert_allclose(
      jax.nn.sigmoid(model.logits(_batch(0))),
      [
        0.4976442, 0.4417287, 0.4814256, 0.541015, 0.7045499, 0.5025403,
        0.5599048, 0.6087224, 0.567731, 0.5693411, 0.6206042, 0.3848177,
      ],
      rtol=2e-6,
    )  # fmt: skip
    for table, (total, squares) in zip(
      model.tables(),
      (
        (-0.6546920277, 5.565615537), (1.419727221, 106.598808964),
        (0.5564987035, 12.192894942), (4.936567373, 38.989002767),
      ),
      strict=True,
    ):  # fmt: skip
      table = np.float64(table)
      self.assertAlmostEqual(table.sum(), total, places=5)
      self.assertAlmostEqual(np.square(table).sum(), squares, places=4)
    whole = model.params['whole']
    for layer, (total, squares, bias) in zip(
      [*whole['bottom'].values(), *whole['top'].values()],
      (
        (1.328501651, 14.611981153, -0.5991154406),
        (-2.300193530, 20.069402178, -0.4205221422),
        (2.773045415, 36.017057264, -1.8714355752),
        (-0.2176530808, 1.0387476488, 0.3989944756),
      ),
      strict=True,
    ):
      kernel = np.float64(layer['kernel'])
      self.assertAlmostEqual(kernel.sum(), total, places=5)
      self.assertAlmostEqual(np.square(kernel).sum(), squares, places=4)
      self.assertAlmostEqual(np.float64(layer['bias']).sum(), bias, places=5)

  def test_dot_products_come_in_order_of_the_second_vector(self):
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3))
    found = dlrm.dots(jnp.float32(vectors))
    pairs = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    expected = [(vectors[:, i] * vectors[:, j]).sum(-1) for i, j in pairs]
    np.testing.assert_allclose(found.T, expected, rtol=1e-5)

  def test_sizes_that_do_not_fit_each_other_are_refused(self):
    tables = self.size.tables
    with self.assertRaisesRegex(ValueError, 'width of the tables, 8'):
      dlrm.Size(tables, COUNTS, (16, 9), (12, 1))
    with self.assertRaisesRegex(ValueError, 'ends in 1'):
      dlrm.Size(tables, COUNTS, (16, 8), (12, 2))


class _Torch(torch.nn.Module):
  """DLRM-DCNv2 of EmbeddingBag and Linear."""

  def __init__(self, tables, layers, crosses):
    super().__init__()
    self.bags = torch.nn.ModuleList(
      torch.nn.EmbeddingBag.from_pretrained(
        torch.tensor(t), freeze=False, mode='sum', sparse=True
      )
      for t in tables
    )
    self.layers = torch.nn.ModuleList(map(self._layer, layers))
    self.crosses = torch.nn.ModuleList(
      torch.nn.ModuleList([self._layer((v, None)), self._layer((w, b))])
      for v, w, b in crosses
    )

  def _layer(self, layer):
    weight, bias = layer
    made = torch.nn.Linear(*weight.shape[::-1], bias=bias is not None)
    made.weight.data = torch.tensor(weight)
    if bias is not None:
      made.bias.data = torch.tensor(bias)
    return made

  def forward(self, batch):
    first, second, third, last = self.layers
    ids = torch.tensor(batch['ids']).long().split(list(HOT), 1)
    bottom = torch.relu(second(torch.relu(first(torch.tensor(batch['dense'])))))
    bags = [b(i) for b, i in zip(self.bags, ids, strict=True)]
    x = start = torch.cat([bottom, *bags], 1)
    for down, up in self.crosses:
      x = start * up(down(x)) + x
    return last(torch.relu(third(x)))[:, 0]


class DcnTest(absltest.TestCase):
  """Up to four rows of a table, some named twice; Adagrad."""

  size = dlrm.Size(
    Tables(SIZES, HOT, WIDTH, 10), COUNTS, (16, 8), (12, 1), 2, 6
  )

  def test_scores_losses_and_three_steps_are_those_of_pytorch(self):
    tables, layers = _weights(((5, 16), (16, 8), (40, 12), (12, 1)))
    draws = np.random.RandomState(4)
    crosses = [
      [
        draws.normal(0, 0.2, shape).astype(np.float32)
        for shape in ((6, 40), (40, 6), (40,))
      ]
      for _ in range(2)
    ]
    model = _Trained(
      self.size,
      tables,
      {
        'bottom': _listed(layers[:2]),
        'top': _listed(layers[2:]),
        'cross': {
          'down': {n: _linear(v) for n, (v, _, _) in enumerate(crosses)},
          'up': {n: _linear(w, b) for n, (_, w, b) in enumerate(crosses)},
        },
      },
      optimizers.row_adagrad(optax.constant_schedule(0.02), epsilon=1e-8),
    )
    peer = _Torch(tables, layers, crosses)
    adagrad = torch.optim.Adagrad(peer.parameters(), lr=0.02, eps=1e-8)
    for seed in range(3):
      batch = _batch(seed, HOT)
      adagrad.zero_grad()
      logits = peer(batch)
      expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.tensor(batch['label'])
      )
      expected.backward()
      adagrad.step()
      loss, found = model.step(batch)
      np.testing.assert_allclose(
        found, logits.detach().numpy(), rtol=1e-4, atol=1e-5
      )
      self.assertAlmostEqual(loss, expected.item(), places=5)
    for bag, table in zip(peer.bags, model.tables(), strict=True):
      np.testing.assert_allclose(
        table, bag.weight.detach().numpy(), rtol=1e-4, atol=1e-5
      )
    cross = model.params['whole']['cross']
    for n, (down, up) in enumerate(peer.crosses):
      np.testing.assert_allclose(
        cross['down'][n]['kernel'].T, down.weight.detach(), atol=1e-5
      )
      np.testing.assert_allclose(cross['up'][n]['bias'], up.bias.detach(),
                                 atol=1e-5)  # fmt: skip


if __name__ == '__main__':
  absltest.main()
