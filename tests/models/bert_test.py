"""Tests of BERT, with the model of transformers as the witness."""

import dataclasses
import functools
import re

from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import torch

from models import bert
from models.parts import attention, functional
from suite.run import sharding
from tests import quick
from tests.models import bert_peer

SMALL = bert.Size(29, 14, 2, 16, 4, 24)
EXACT = attention.Compute(dropout=0.0)
USUAL = attention.Compute(dropout=0.1)
CLS, SEP = 2, 3
# Sentences of three samples, and the places that are predicted.
SAMPLES = (
  ([7, 9, 4, 22], [8, 8, 13], (1, 6)),
  ([5], [6], (3,)),
  ([10, 11], [12, 28, 27, 4], (2, 4, 7)),
)


@functools.cache
def _model(compute=EXACT, size=SMALL):
  return functional.Functional.of(
    lambda rngs: bert.Bert(size, compute=compute, rngs=rngs)
  )


@functools.cache
def _params(size=SMALL):
  """Parameters of which none is 0 or 1, so that each of them matters."""
  shapes = jax.eval_shape(_model(size=size).init, jax.random.key(0))[0]
  draws = np.random.default_rng(5)

  def draw(path, leaf):
    mean = 1.0 if 'scale' in sharding.path_of(path) else 0.0
    return jnp.asarray(draws.normal(mean, 0.3, leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def rows(members, length=14, places=4):
  """Inputs of rows that hold these samples, of `SAMPLES` by number."""
  shape = (len(members), length)
  tokens, types, segments, positions = np.zeros((4, *shape), np.int32)
  predicted = np.zeros((len(members), places), np.int32)
  first = np.zeros((len(members), 2), np.int32)
  for row, samples in enumerate(members):
    at = number = 0
    for each, sample in enumerate(samples):
      one, other, chosen = SAMPLES[sample]
      text = [CLS, *one, SEP, *other, SEP]
      place = slice(at, at + len(text))
      tokens[row, place], segments[row, place] = text, each + 1
      types[row, at + len(one) + 2 : at + len(text)] = 1
      positions[row, place] = np.arange(len(text))
      predicted[row, number : number + len(chosen)] = np.add(chosen, at)
      first[row, each] = at
      number, at = number + len(chosen), at + len(text)
  packing = attention.Packing(segments, positions)
  return bert.Inputs(tokens, types, packing, predicted, first)


ALONE = rows([[0], [1], [2]])


@functools.partial(quick.jit, static_argnums=0)
def _logits(compute, params, inputs, drop_key=None):
  return _model(compute).apply(params, {}, inputs, drop_key=drop_key)[0]


def _labels(count=4):
  """Labels of the predictions, their weights, and those of the samples."""
  labels = np.asarray([[5, 6, 0, 0], [7, 0, 0, 0], [1, 8, 20, 0]])
  weight = np.asarray([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], np.float32)
  return labels[:, :count], weight, np.asarray([0, 1, 1])


@functools.partial(quick.jit, static_argnums=0)
def _step(compute, params, inputs):
  """((loss, logits), gradients)."""
  labels, weight, random = _labels()

  def loss(params):
    tokens, samples = _model(compute).apply(params, {}, inputs)[0]
    cross = optax.softmax_cross_entropy_with_integer_labels
    of_tokens = (cross(tokens, labels) * weight).sum() / weight.sum()
    return of_tokens + cross(samples[:, 0], random).mean(), (tokens, samples)

  return jax.value_and_grad(loss, has_aux=True)(params)


class ParametersTest(absltest.TestCase):
  def test_there_are_as_many_parameters_as_in_the_reference(self):
    shapes, stats = jax.eval_shape(
      _model(size=bert.LARGE).init, jax.random.key(0)
    )
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    self.assertEqual(total, 336_226_108)
    self.assertEmpty(jax.tree.leaves(stats))

  def test_they_start_as_in_the_reference(self):
    """Matrices cut at two of their deviations, 0.02; the rest 0 or 1."""
    size = bert.Size(400, 32, 2, 32, 4, 64)
    made = quick.jit(_model(size=size).init)(jax.random.key(0, impl='rbg'))[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(made):
      name = sharding.path_of(path)
      if name.endswith('bias'):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf), name)
      elif name.endswith('scale'):
        np.testing.assert_array_equal(leaf, np.ones_like(leaf), name)
      else:
        self.assertLessEqual(float(jnp.abs(leaf).max()), 0.04 + 1e-7, name)
        if leaf.size > 1000:
          # Of a normal that is cut at 2, 0.8796 of the deviation is left.
          self.assertAlmostEqual(float(leaf.std()), 0.0176, delta=1.2e-3)

  def test_impossible_sizes_are_refused(self):
    for change in ({'layers': 0}, {'heads': 3}, {'stddev': 0.0}):
      with self.assertRaisesRegex(ValueError, 'Expected positive sizes'):
        dataclasses.replace(SMALL, **change)

  def test_what_lamb_leaves_alone_is_what_the_reference_excludes(self):
    """LayerNorm and bias, of 398 variables 248, where layers count apart."""
    found = {True: 0, False: 0}
    shapes = jax.eval_shape(_model(size=bert.LARGE).init, jax.random.key(0))[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
      name = sharding.path_of(path)
      layers = leaf.shape[0] if bert.STACKED in name else 1
      skipped = bool(re.search(bert.NOT_ADAPTED, name))
      found[skipped] += layers
    self.assertEqual(found, {True: 248, False: 150})


class ParityTest(absltest.TestCase):
  def test_logits_loss_and_gradients_are_those_of_transformers(self):
    params = _params()
    (loss, (tokens, samples)), grads = _step(EXACT, params, ALONE)
    labels, weight, random = _labels()
    wanted = np.full(ALONE.tokens.shape, -100)
    for row, col in zip(*np.nonzero(weight), strict=True):
      wanted[row, ALONE.predicted[row, col]] = labels[row, col]
    model = bert_peer.peer(SMALL, params).train()  # of a dropout of 0
    found = model(
      input_ids=torch.tensor(ALONE.tokens.astype(np.int64)),
      attention_mask=torch.tensor(ALONE.packing.segments),
      token_type_ids=torch.tensor(ALONE.types.astype(np.int64)),
      labels=torch.tensor(wanted),
      next_sentence_label=torch.tensor(random),
    )
    found.loss.backward()
    theirs = found.prediction_logits.detach().numpy()
    at = np.take_along_axis(theirs, ALONE.predicted[..., None], axis=1)
    np.testing.assert_allclose(
      tokens[weight > 0], at[weight > 0], rtol=2e-5, atol=1e-5
    )
    np.testing.assert_allclose(
      samples[:, 0],
      found.seq_relationship_logits.detach(),
      rtol=2e-5,
      atol=1e-5,
    )
    np.testing.assert_allclose(loss, found.loss.item(), rtol=1e-6)
    by_name = dict(model.named_parameters())
    ours = bert_peer.tensors(SMALL, grads)
    self.assertEqual({*ours}, {*by_name})
    for name, expected in by_name.items():
      np.testing.assert_allclose(
        ours[name], expected.grad, rtol=1e-4, atol=2e-6, err_msg=name
      )


class PackingTest(absltest.TestCase):
  def test_packed_samples_are_computed_as_in_rows_of_their_own(self):
    alone = _logits(EXACT, _params(), ALONE)
    packed = _logits(EXACT, _params(), rows([[1, 2], [0]]))
    for found, expected in (
      (packed[0][0, :1], alone[0][1, :1]),
      (packed[0][0, 1:4], alone[0][2, :3]),
      (packed[0][1, :2], alone[0][0, :2]),
      (packed[1][0], jnp.stack([alone[1][1, 0], alone[1][2, 0]])),
      (packed[1][1, 0], alone[1][0, 0]),
    ):
      np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

  def test_more_padding_changes_nothing(self):
    short, long = (
      _logits(EXACT, _params(), rows([[0], [2]], length)) for length in (11, 14)
    )
    how = {'rtol': 1e-4, 'atol': 1e-5}
    np.testing.assert_allclose(short[0][:, :2], long[0][:, :2], **how)
    np.testing.assert_allclose(short[1][:, 0], long[1][:, 0], **how)

  def test_a_row_of_padding_alone_is_finite(self):
    found = _step(EXACT, _params(), rows([[], [], []]))
    for leaf in jax.tree.leaves(found):
      self.assertTrue(np.isfinite(leaf).all())


class DropoutTest(absltest.TestCase):
  def test_every_place_is_handed_a_key_of_its_own(self):
    """After the embeddings, and of each layer the weights and two sums."""
    size, seen = dataclasses.replace(SMALL, layers=1), []
    drop = attention.drop

    def recorded(x, rate, key):
      seen.append((x.shape, rate, key is not None))
      return drop(x, rate, key)

    attention.drop = recorded
    try:
      jax.eval_shape(
        lambda params, key: _model(USUAL, size).apply(
          params, {}, ALONE, drop_key=key
        ),
        _params(size),
        jax.random.key(0),
      )
    finally:
      attention.drop = drop
    x, weights = (3, 14, 16), (3, 4, 14, 14)
    self.assertEqual(
      sorted(seen), sorted([(x, 0.1, True)] * 3 + [(weights, 0.1, True)])
    )

  def test_a_key_gives_the_same_masks_again_and_another_gives_others(self):
    first, again, other = (
      _logits(USUAL, _params(), ALONE, jax.random.key(seed))[0]
      for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    self.assertGreater(float(jnp.abs(first - other).max()), 1e-2)

  def test_without_a_key_nothing_is_dropped(self):
    np.testing.assert_array_equal(
      _logits(USUAL, _params(), ALONE)[0], _logits(EXACT, _params(), ALONE)[0]
    )


class ComputeTest(absltest.TestCase):
  def test_layers_at_once_and_computed_twice_change_no_gradient(self):
    compute = dataclasses.replace(EXACT, remat=True, unroll=2)
    found = _step(compute, _params(), ALONE)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      found,
      _step(EXACT, _params(), ALONE),
    )

  def test_bfloat16_computes_near_and_keeps_logits_in_float32(self):
    compute = dataclasses.replace(EXACT, dtype=jnp.bfloat16)
    for found, expected in zip(
      _logits(compute, _params(), ALONE),
      _logits(EXACT, _params(), ALONE),
      strict=True,
    ):
      self.assertEqual(found.dtype, jnp.float32)
      self.assertLess(float(jnp.abs(found - expected).max()), 0.25)

  def test_the_model_axis_splits_heads_and_hidden_units(self):
    mesh = sharding.make_mesh(2)
    shapes = jax.eval_shape(_model().init, jax.random.key(0))[0]
    found = sharding.from_rules(shapes, bert.PARTITION_RULES, mesh)
    split = {
      sharding.path_of(path)
      for path, each in jax.tree_util.tree_leaves_with_path(found)
      if each.spec != P()
    }
    blocks = 'encoder/blocks'
    self.assertEqual(
      split,
      {f'{blocks}/attention/output/kernel', f'{blocks}/down/kernel'}
      | {
        f'{blocks}/{name}/{kind}'
        for name in (
          'up',
          *(f'attention/{n}' for n in ('query', 'key', 'value')),
        )
        for kind in ('kernel', 'bias')
      },
    )
    placed = jax.device_put(_params(), found)
    for ours, whole in zip(
      _logits(EXACT, placed, ALONE),
      _logits(EXACT, _params(), ALONE),
      strict=True,
    ):
      np.testing.assert_allclose(ours, whole, rtol=1e-4, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
