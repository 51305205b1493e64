"""Tests of the Transformer, with PyTorch's own modules as the witness."""

import dataclasses
import functools
import math

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
from scipy import special

from models import transformer
from models.parts import attention, functional
from suite.run import sharding
from tests import quick
from tests.models.parts import beam_search_test

SMALL = transformer.Size(23, 2, 16, 4, 24)
EXACT = attention.Compute(dropout=0.0)
USUAL = attention.Compute(dropout=0.1)


@functools.cache
def _model(compute=EXACT, size=SMALL):
  return functional.Functional.of(
    lambda rngs: transformer.Transformer(size, compute=compute, rngs=rngs)
  )


@functools.cache
def _params(size=SMALL):
  """Parameters of which none is 0 or 1, so that each of them matters."""
  shapes = jax.eval_shape(_model(size=size).init, jax.random.key(0))[0]
  draws = np.random.default_rng(5)

  def draw(path, leaf):
    name = sharding.path_of(path)
    scale = 0.3 if name == 'embedding' or 'kernel' in name else 0.2
    values = draws.normal(1.0 if 'scale' in name else 0.0, scale, leaf.shape)
    return jnp.asarray(values, jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _batch():
  """Three sentence pairs, padded to the longest: [3, 6] and [3, 7]."""
  source = [[5, 9, 13, 22, 7, 1], [8, 2, 1, 0, 0, 0], [3, 3, 4, 1, 0, 0]]
  target = [[6, 21, 1, 0, 0, 0, 0], [4, 8, 15, 16, 20, 9, 1], [2, 1] + 5 * [0]]
  return np.asarray(source, np.int32), np.asarray(target, np.int32)


def _packed():
  """The same pairs in two rows: the first and the third, and the second."""
  source, target = _batch()
  rows = ((0, 2), (1,))

  def pack(sentences, length):
    tokens = np.zeros((2, length), np.int32)
    segments, positions = np.zeros_like(tokens), np.zeros_like(tokens)
    for row, members in enumerate(rows):
      at = 0
      for number, member in enumerate(members, start=1):
        words = sentences[member][sentences[member] != 0]
        place = slice(at, at + len(words))
        tokens[row, place], segments[row, place] = words, number
        positions[row, place] = np.arange(len(words))
        at += len(words)
    return tokens, transformer.Packing(segments, positions)

  return pack(source, 11), pack(target, 8)


def _mean_loss(model, params, source, target, **more):
  logits, _ = model.apply(params, {}, source, target, **more)
  losses = transformer.token_losses(logits, target, smoothing=0.1)
  return losses.sum() / (target != 0).sum(), logits


def _on_host(function, **how):
  """The function compiled, its results in numpy: slices compile nothing."""
  compiled = quick.jit(function, **how)
  return lambda *args, **more: jax.device_get(compiled(*args, **more))


@functools.partial(_on_host, static_argnums=0)
def _step(compute, params, source, target, **more):
  """((loss, logits), gradients)."""
  of_params = functools.partial(_mean_loss, _model(compute))
  return jax.value_and_grad(of_params, has_aux=True)(
    params, source, target, **more
  )


def _exact(source, target):
  """Logits of a batch in the shapes of `_batch`."""
  return _step(EXACT, _params(), source, target)[0][1]


@functools.partial(_on_host, static_argnums=0)
def _logits(compute, params, source, target, **more):
  return _model(compute).apply(params, {}, source, target, **more)[0]


_losses = _on_host(transformer.token_losses, static_argnames='smoothing')
_signal = _on_host(transformer.signal, static_argnums=1)


class ParametersTest(absltest.TestCase):
  def test_there_are_as_many_parameters_as_in_the_reference(self):
    shapes, stats = jax.eval_shape(
      _model(size=transformer.BIG).init, jax.random.key(0)
    )
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    self.assertEqual(total, 210_804_736)
    self.assertEmpty(jax.tree.leaves(stats))

  def test_they_start_as_in_the_reference(self):
    size = transformer.Size(400, 2, 32, 4, 64)
    key = jax.random.key(0, impl='rbg')
    made = quick.jit(_model(size=size).init)(key)[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(made):
      name, values = sharding.path_of(path), np.asarray(leaf)
      if name.endswith('scale'):
        self.assertTrue((values == 1).all(), name)
      elif name.endswith('bias'):
        self.assertFalse(values.any(), name)
      elif name == 'embedding':
        self.assertAlmostEqual(values.std() * 32**0.5, 1, delta=0.02)
        self.assertGreater(np.abs(values).max() * 32**0.5, 3)  # not truncated
      else:
        fans = 96 if 'ffn' in name else 64
        limit = math.sqrt(6 / fans)
        self.assertBetween(np.abs(values).max(), 0.97 * limit, limit, name)
        self.assertAlmostEqual(values.std() * 3**0.5 / limit, 1, delta=0.05)
        self.assertFalse(np.array_equal(values[0], values[1]), name)

  def test_impossible_sizes_are_refused(self):
    for changes, says in (
      ({'heads': 3}, 'divide the width'),
      ({'layers': 0}, 'positive'),
      ({'width': 9, 'heads': 3}, 'even width'),
    ):
      with self.assertRaisesRegex(ValueError, says):
        dataclasses.replace(SMALL, **changes)
    with self.assertRaisesRegex(ValueError, r'\[0, 1\).*got 1'):
      attention.Compute(dropout=1.0)


class PeerTest(absltest.TestCase):
  """Against another implementation with the same weights."""

  def test_logits_loss_and_gradients_are_those_of_pytorch(self):
    torch = pytest.importorskip('torch')
    from tests.models import modules_peer

    source, target = _batch()
    peer = modules_peer.Peer(SMALL, _params())
    theirs = peer(torch.tensor(source), torch.tensor(target))
    their_loss = modules_peer.loss(theirs, torch.tensor(target), 0.1)
    their_loss.backward()
    (loss, logits), grads = _step(EXACT, _params(), source, target)
    self.assertGreater(np.ptp(logits), 5)
    np.testing.assert_allclose(logits, theirs.detach(), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(loss, float(their_loss.detach()), rtol=1e-5)
    compared = modules_peer.tensors(SMALL, grads)
    learned = {n for n, p in peer.named_parameters() if p.requires_grad}
    self.assertEqual(set(compared), learned)
    for name, ours in compared.items():
      other = peer.get_parameter(name).grad
      largest = float(abs(other).max())
      self.assertGreater(largest, 1e-4, name)
      np.testing.assert_allclose(
        ours, other, rtol=2e-4, atol=2e-5 * largest, err_msg=name
      )


class PackingTest(absltest.TestCase):
  def test_packed_pairs_are_computed_as_in_rows_of_their_own(self):
    source, target = _batch()
    logits = _exact(source, target)
    (packed, by_source), (packed_target, by_target) = _packed()
    more = {'source_packing': by_source, 'target_packing': by_target}
    found = _logits(EXACT, _params(), packed, packed_target, **more)
    for ours, place in (
      (logits[0, :3], (0, slice(0, 3))),
      (logits[2, :2], (0, slice(3, 5))),
      (logits[1, :7], (1, slice(0, 7))),
    ):
      np.testing.assert_allclose(found[place], ours, rtol=1e-4, atol=1e-5)
    losses = [
      _losses(*each, smoothing=0.1).sum()
      for each in ((logits, target), (found, packed_target))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)

  def test_packing_of_one_side_alone_is_refused(self):
    (packed, by_source), (target, _) = _packed()
    with self.assertRaisesRegex(ValueError, 'both sides'):
      _logits(EXACT, _params(), packed, target, source_packing=by_source)


class MaskTest(absltest.TestCase):
  def test_more_padding_changes_nothing(self):
    source, target = _batch()
    logits = _exact(source, target)
    wider = [np.pad(each, ((0, 0), (0, 3))) for each in (source, target)]
    more = _logits(EXACT, _params(), *wider)
    np.testing.assert_allclose(more[:, :7], logits, rtol=1e-4, atol=1e-5)

  def test_a_target_token_changes_only_what_comes_after_it(self):
    source, target = _batch()
    logits = _exact(source, target)
    changed = target.copy()
    changed[1, 3] = 12
    other = _exact(source, changed)
    np.testing.assert_array_equal(other[1, :4], logits[1, :4])
    self.assertTrue((np.abs(other[1, 4:] - logits[1, 4:]).max(-1) > 1e-3).all())

  def test_a_row_of_padding_alone_is_finite(self):
    source, target = _batch()
    source, target = source.copy(), target.copy()
    source[2], target[2] = 0, 0
    (loss, logits), grads = _step(EXACT, _params(), source, target)
    for leaf in jax.tree.leaves((loss, logits, grads)):
      self.assertTrue(np.isfinite(leaf).all())

  def test_padding_skips_the_feed_forward_layers_of_the_encoder(self):
    source, _ = _batch()
    model, params = _model(), _params()

    @_on_host
    def encode(params):
      return model.merged(params, {}).encode(source)

    # Only in the last layer, since what comes after it mixes no positions.
    change = jnp.zeros((2, 16)).at[1].set(jnp.arange(16.0))

    def changed(path, leaf):
      name = sharding.path_of(path)
      return leaf + change if name == 'encoder/blocks/ffn/down/bias' else leaf

    one = jax.tree_util.tree_map_with_path(changed, params)
    before, after = encode(params), encode(one)
    moved = np.abs(after - before).max(-1) > 1e-3
    np.testing.assert_array_equal(moved, source != 0)


class PositionTest(absltest.TestCase):
  def test_the_signal_is_sines_then_cosines_of_rates_to_a_ten_thousandth(self):
    found = _signal(np.arange(40)[None], 1024)[0]
    self.assertEqual(found.shape, (40, 1024))
    np.testing.assert_array_equal(found[0, :512], 0)
    np.testing.assert_array_equal(found[0, 512:], 1)
    # i = 0, 100 and 511 of both halves, at position 7.
    rate = 1e4 ** (-100 / 511)
    np.testing.assert_allclose(
      found[7, np.asarray([0, 100, 511, 512, 612, 1023])],
      [
        *(math.sin(7), math.sin(7 * rate), math.sin(7e-4)),
        *(math.cos(7), math.cos(7 * rate), math.cos(7e-4)),
      ],
      rtol=1e-5,
    )


class LossTest(parameterized.TestCase):
  def test_by_hand(self):
    logits = np.log(np.asarray([[0.5, 0.25, 0.125, 0.125]], np.float32))
    found = _losses(logits, np.asarray([1], np.int32), smoothing=0.3)
    # 0.7 on the target, 0.1 on each of the other three.
    cross = -0.7 * np.log(0.25) - 0.1 * np.log(0.5) - 0.2 * np.log(0.125)
    least = -0.7 * np.log(0.7) - 0.3 * np.log(0.1)
    np.testing.assert_allclose(found, [cross - least], rtol=1e-5)

  def test_it_is_0_where_the_model_is_as_smooth_as_the_targets(self):
    soft = np.full((2, 5), 0.1 / 4, np.float32)
    targets = np.asarray([3, 0], np.int32)
    soft[0, 3] = 0.9
    loss = lambda x: transformer.token_losses(x, targets, smoothing=0.1).sum()  # noqa: E731
    value, slope = quick.jit(jax.value_and_grad(loss))(np.log(soft))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(slope, np.zeros((2, 5)), atol=1e-6)

  def test_padding_weighs_nothing(self):
    logits = np.random.default_rng(0).normal(size=(2, 3, 6))
    targets = np.asarray([[2, 1, 0], [5, 0, 0]], np.int32)
    found = _losses(logits, targets, smoothing=0.1)
    np.testing.assert_array_equal(found > 0, targets != 0)

  def test_without_smoothing_it_is_the_cross_entropy(self):
    logits = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    targets = np.asarray([1, 2, 3, 5], np.int32)
    found = _losses(logits, targets, smoothing=0.0)
    plain = -special.log_softmax(logits, axis=-1)[np.arange(4), targets]
    np.testing.assert_allclose(found, plain, rtol=1e-5)


class DropoutTest(absltest.TestCase):
  def test_it_is_where_the_reference_has_it(self):
    source, target = _batch()
    dropping = attention.Compute(dropout=0.1)

    def logits(params, key):
      return _model(dropping).apply(params, {}, source, target, drop_key=key)[0]

    key = jax.random.key(0, impl='rbg')
    found = sorted(_dropped(jax.make_jaxpr(logits)(_params(), key).jaxpr))
    rows, heads, there, here, width = 3, 4, 6, 7, SMALL.width
    encoder = [(rows, heads, there, there), (rows, there, 24)]
    encoder += 2 * [(rows, there, width)]
    decoder = [(rows, heads, here, here), (rows, heads, here, there)]
    decoder += [(rows, here, 24), *3 * [(rows, here, width)]]
    # The bodies of both scans appear once, whatever the number of layers.
    expected = [(rows, there, width), (rows, here, width), *encoder, *decoder]
    self.assertEqual(found, sorted(expected))

  # So attention that can drop is attention as jax.nn has it, masks included.
  def test_a_rate_of_hardly_anything_changes_nothing(self):
    (packed, by_source), (target, by_target) = _packed()
    more = {'source_packing': by_source, 'target_packing': by_target}
    exact = _logits(EXACT, _params(), packed, target, **more)
    self._assert_hardly_changed(exact, packed, target, **more)

  @pytest.mark.slow
  def test_nor_does_it_where_nothing_is_packed(self):
    source, target = _batch()
    self._assert_hardly_changed(_exact(source, target), source, target)

  def _assert_hardly_changed(self, exact, source, target, **more):
    hardly, key = attention.Compute(dropout=1e-9), jax.random.key(0, impl='rbg')
    dropping = _logits(hardly, _params(), source, target, drop_key=key, **more)
    real = target != 0
    np.testing.assert_allclose(
      dropping[real], exact[real], rtol=1e-4, atol=1e-5
    )

  def test_a_key_gives_the_same_masks_again_and_another_gives_others(self):
    source, target = _batch()
    found = []
    for seed in (4, 4, 5):
      key = jax.random.key(seed, impl='rbg')
      found.append(_logits(USUAL, _params(), source, target, drop_key=key))
    np.testing.assert_array_equal(found[0], found[1])
    self.assertGreater(np.abs(found[0] - found[2]).max(), 0.1)

  def test_what_is_kept_is_scaled_up(self):
    key = jax.random.key(3, impl='rbg')
    drop = _on_host(attention.drop, static_argnums=1)
    found = drop(np.full(20_000, 0.9, np.float32), 0.1, key)
    self.assertEqual(set(found.round(5).tolist()), {0.0, 1.0})
    self.assertAlmostEqual(found.mean(), 0.9, delta=0.01)

  def test_every_layer_is_handed_a_key_of_its_own(self):
    source, target = _batch()
    logits = lambda key: _model(attention.Compute()).apply(  # noqa: E731
      _params(), {}, source, target, drop_key=key
    )[0]
    jaxpr = jax.make_jaxpr(logits)(jax.random.key(0)).jaxpr
    scans = [each for each in jaxpr.eqns if each.primitive.name == 'scan']
    self.assertLen(scans, 2)
    for scan in scans:
      params = scan.params
      a_layer_each = scan.invars[params['num_consts'] + params['num_carry'] :]
      keys = [
        each.aval.shape
        for each in a_layer_each
        if jnp.issubdtype(each.aval.dtype, jax.dtypes.prng_key)
      ]
      self.assertEqual(keys, [(SMALL.layers,)])


def _dropped(jaxpr):
  """Shapes of the random draws in a jaxpr and in what it calls."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'random_bits':
      yield equation.outvars[0].aval.shape
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else (value,):
        inner = getattr(inner, 'jaxpr', inner)
        if hasattr(inner, 'eqns'):
          yield from _dropped(inner)


class ComputeTest(absltest.TestCase):
  def test_layers_at_once_and_computed_twice_change_no_gradient(self):
    source, _ = _batch()

    def of_encoder(compute, params, key):
      model = _model(compute).merged(params, {})
      return (model.encode(source, drop_key=key) ** 3).sum()

    self._assert_layers_at_once_change_nothing(
      jax.value_and_grad(of_encoder, 1)
    )

  @pytest.mark.slow
  def test_nor_any_of_the_whole_model(self):
    source, target = _batch()
    self._assert_layers_at_once_change_nothing(
      lambda compute, params, key: jax.value_and_grad(
        functools.partial(_mean_loss, _model(compute)), has_aux=True
      )(params, source, target, drop_key=key)
    )

  def _assert_layers_at_once_change_nothing(self, step):
    step, key = _on_host(step, static_argnums=0), jax.random.key(4, impl='rbg')
    found = [
      step(each, _params(), key)
      for each in (USUAL, dataclasses.replace(USUAL, remat=True, unroll=2))
    ]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

  def test_bfloat16_computes_near_and_keeps_logits_in_float32(self):
    source, target = _batch()
    near = _logits(
      dataclasses.replace(EXACT, dtype=jnp.bfloat16), _params(), source, target
    )
    exact = _exact(source, target)
    self.assertEqual(near.dtype, np.float32)
    self.assertFalse(np.array_equal(near, exact))
    np.testing.assert_allclose(near, exact, atol=0.1 * np.abs(exact).max())


class PartitionTest(absltest.TestCase):
  def test_the_model_axis_splits_heads_hidden_units_and_tokens(self):
    size = dataclasses.replace(SMALL, vocabulary=24)
    model, mesh = _model(size=size), sharding.make_mesh(2)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    state = {'params': shapes, 'opt': {'mu': shapes}}
    found = sharding.from_rules(state, transformer.PARTITION_RULES, mesh)
    whole = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
      name = sharding.path_of(path)
      if leaf.spec == P():
        self.assertRegex(name, r'(norm/(scale|bias)|down/bias)$')
        whole += 1
    # Both stacks: 2 + 3 norms and the last of each, and a bias; two copies.
    self.assertEqual(whole, 2 * (2 * (5 + 2) + 2))
    self.assertEqual(found['params']['embedding'].spec, P('model', None))

  def test_logits_are_the_same_on_a_mesh_with_a_model_axis(self):
    size = dataclasses.replace(SMALL, vocabulary=24)
    model, mesh = _model(size=size), sharding.make_mesh(2)
    source, target = (np.tile(each, (4, 1)) for each in _batch())
    params = _params(size)
    apply = quick.jit(lambda *args: model.apply(args[0], {}, *args[1:])[0])
    split = jax.device_put(
      params, sharding.from_rules(params, transformer.PARTITION_RULES, mesh)
    )
    rows = sharding.put_rows({'s': source, 't': target}, mesh)
    found = apply(split, rows['s'], rows['t'])
    self.assertLen(found.sharding.device_set, 8)
    np.testing.assert_allclose(
      found, apply(params, source, target), rtol=1e-4, atol=2e-5
    )


@functools.partial(_on_host, static_argnums=(0, 3))
def _translate(compute, params, source, settings):
  model = _model(compute).merged(params, {})
  return model.translate(source, **dict(settings))


class TranslateTest(parameterized.TestCase):
  @parameterized.parameters((4, 0.6, 4), (1, 1.0, 0))
  def test_it_is_a_plain_search_without_any_cache(self, beams, alpha, padding):
    source, _ = _batch()
    settings = (('beams', beams), ('alpha', alpha), ('extra_length', 3))
    wider = np.pad(source, ((0, 0), (0, padding)))
    found = _translate(EXACT, _params(), wider, settings)
    self.assertEqual(found.tokens.shape, (3, beams, 9 + padding))
    for row in range(3):
      expected = beam_search_test.plain_search(
        functools.partial(_next_log_probs, source[row]), 0,
        beams=beams, length=9, alpha=alpha,
      )  # fmt: skip
      for place, (score, tokens) in enumerate(expected):
        padded = np.pad(tokens, (0, 9 - len(tokens)))
        np.testing.assert_array_equal(found.tokens[row, place, :9], padded)
        np.testing.assert_allclose(found.scores[row, place], score, rtol=1e-4)

  def test_the_longest_source_of_a_batch_limits_it_and_not_its_padding(self):
    source, _ = _batch()
    settings = (('beams', 4), ('alpha', 0.6), ('extra_length', 3))
    wider = np.pad(source, ((0, 0), (0, 4)))
    found = _translate(EXACT, _params(), wider, settings)
    self.assertFalse(found.tokens[..., 9:].any())
    self.assertEqual(found.steps, 9)

  def test_bfloat16_translates_with_keys_and_values_in_bfloat16(self):
    source, _ = _batch()
    compute = dataclasses.replace(EXACT, dtype=jnp.bfloat16)
    cache = jax.eval_shape(
      lambda params: (
        _model(compute)
        .merged(params, {})
        .stepper(jnp.asarray(source), beams=2, length=5)[1]
      ),
      _params(),
    )
    self.assertEqual(cache.keys[0].dtype, jnp.bfloat16)
    found = _translate(compute, _params(), source, (('beams', 2),))
    self.assertTrue(np.isfinite(found.scores[:, 0]).all())


class LibraryTest(absltest.TestCase):
  def test_the_best_translations_are_those_of_the_transformers_library(self):
    # Theirs differs in two rules, so the model is one that hardly ever comes
    # near them: an end counts only among the K best candidates, and what is
    # alive at the limit competes with what ended. The penalty, which is another
    # as well, is none.
    pytest.importorskip('torch')
    pytest.importorskip('transformers')
    from tests.models.parts import translation_peer

    params, source = _ending(_params()), _sentences(40)
    peer = translation_peer.arrange(SMALL, params, longest=40)
    settings = (('beams', 4), ('alpha', 0.0), ('extra_length', 20))
    found = _translate(EXACT, params, source, settings)
    best = np.asarray(found.tokens[:, 0])
    theirs = translation_peer.generate(peer, source, beams=4, extra_length=20)
    cut = translation_peer.cut(theirs, best.shape[1])
    np.testing.assert_array_equal(best, cut)
    ended = (best == transformer.END).any(axis=1)
    self.assertBetween(ended.mean(), 0.2, 0.8)
    self.assertGreater(len({tuple(row) for row in best[ended].tolist()}), 3)


def _sentences(count):
  draws = np.random.default_rng(0)
  source = np.zeros((count, 9), np.int32)
  for row in source:
    words = draws.integers(2, 9)
    row[:words], row[words] = draws.integers(2, 23, words), transformer.END
  return source


def _ending(params):
  """A model that is sure whether to end: where a slow wave is above a level."""
  params = jax.tree.map(np.array, params)
  table, decoder = params['embedding'], params['decoder']
  wave, constant = 2, 15  # channels: nothing but the position; always 1
  table[:, [wave, constant]], table[transformer.END] = 0, 0
  table[transformer.END, [wave, constant]] = 400, -40
  for part in ('attention', 'memory_attention'):
    decoder['blocks'][part]['output']['kernel'][..., wave] = 0
  for leaf in decoder['blocks']['ffn']['down'].values():
    leaf[..., wave] = 0
  norm = decoder['norm']
  norm['scale'][[wave, constant]] = 1, 0
  norm['bias'][[wave, constant]] = 0, 1
  return params


def _next_log_probs(source, tokens):
  """Log probabilities after `tokens`, of which the first is the start."""
  # In the shapes of the test that more padding changes nothing.
  sources, targets = np.zeros((3, 9), np.int32), np.zeros((3, 10), np.int32)
  sources[0, : len(source)] = source
  targets[0, : len(tokens) - 1] = tokens[1:]
  logits = _logits(EXACT, _params(), sources, targets)
  return special.log_softmax(logits[0, len(tokens) - 1])


if __name__ == '__main__':
  absltest.main()
