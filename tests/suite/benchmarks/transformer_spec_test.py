"""Numbers that the specification of the Transformer fixes, each stated once.

From mlcommons/training, retired_benchmarks/transformer/tensorflow, and the
rules of rounds v0.6 and v0.7: training_rules.adoc of
mlcommons/training_policies, training_0.6.0/transformer.yaml and
training_0.7.0/closed_transformer.yaml of mlcommons/logging. The number of pairs
is that of published logs.
"""

import math
from unittest import mock

from absl.testing import absltest
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines import translation
from input_pipelines.text import buckets, subwords
from input_pipelines.translation import prepare, read
from models import transformer as model
from models.parts import attention, beam_search
from suite import benchmark
from suite.hparams import Division
from suite.metrics import bleu
from suite.run import program
from tests.suite.benchmarks import spec_table

WMT17 = ('wmt17_en_de', 4_590_101, 3003)
BLEU = {'BLEU': {'at_least': 0.25}}
TABLE = spec_table.Table(
  name='transformer',
  runs=10,
  dropped=1,
  sizes={
    'reference': ('0.7.0', BLEU, WMT17, 20),
    'v0.6': ('podium-transformer-v0.6', BLEU, WMT17, 0),
  },
  fixed={
    'epsilon': 1e-9,
    'epochs_between_evals': 1,
    'beams': 4,
    'length_exponent': 0.6,
    'extra_length': 50,
    'dropout': 0.1,
    'label_smoothing': 0.1,
    'subwords': 33_708,
    'layers': 6,
    'width': 1024,
    'heads': 16,
    'ffn': 4096,
  },
  tunable={
    'global_batch_size': 4096,
    'opt_name': 'adam',
    'base_learning_rate': 2.0,
    'warmup_steps': 16_000,
    'beta_1': 0.9,
    'beta_2': 0.997,
    'max_sequence_length': 256,
    'length_method': 'discard',
    'batching': 'buckets',
    'bucket_first': 8,
    'bucket_scale': 1.1,
    'packed_row_length': 256,
    'row_multiple': 1,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'remat',
    'unroll',
    'subword_multiple',
    'max_epochs',
    'eval_batch_size',
    'eval_lengths',
  ),
  allowed=(
    {'opt_name': 'lazy_adam'},
    {'beta_1': '0.9086575725261137', 'beta_2': '0.9198719118104947'},
    {'beta_1': '0', 'beta_2': '0'},
    {'base_learning_rate': '3.3092157691415953', 'warmup_steps': '664'},
    {'max_sequence_length': '64', 'length_method': 'truncate'},
    {'batching': 'packing', 'global_batch_size': '524288'},
  ),
  refused=(
    {'opt_name': 'sgd'},
    {'epsilon': '1e-8'},
    {'beta_1': '1'},
    {'beta_2': '1'},
    {'base_learning_rate': '0'},
    {'length_method': 'cut'},
    {'eval_lengths': '64,32'},
    {'dropout': '0'},
  ),
  logged={
    'global_batch_size': 4096,
    'opt_name': 'adam',
    'opt_base_learning_rate': 2.0,
    'opt_learning_rate_warmup_steps': 16_000,
    'opt_adam_beta_1': 0.9,
    'opt_adam_beta_2': 0.997,
    'opt_adam_epsilon': 1e-9,
    'max_sequence_length': 256,
    'gradient_accumulation_steps': 1,
  },
)
# Of the reference, with a small model where it makes no difference.
SMALL = {'layers': 1, 'ffn': 8, 'heads': 2, 'subwords': 10}


class TransformerSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_round_v06_leaves_fewer_betas(self):
    v06 = benchmark.get('transformer').size('v0.6').hparams
    for changes, allowed in (
      ({'beta_1': '0.86'}, True),
      ({'beta_1': '0.88'}, False),
      ({'beta_2': '0.92'}, True),
      ({'beta_2': '0.98'}, True),
      ({'beta_2': '0.99'}, False),
    ):
      with self.subTest(str(changes)):
        if allowed:
          spec_table.hparams.override(v06, changes, Division.CLOSED)
          continue
        with self.assertRaises(ValueError):
          spec_table.hparams.override(v06, changes, Division.CLOSED)

  def test_the_log_says_how_lengths_are_kept(self):
    for method in ('discard', 'truncate'):
      hp = self.override({'length_method': method})
      self.assertEqual(
        spec_table.hparams.beside(hp),
        {'max_sequence_length': {'method': method}},
      )

  def test_the_data_set(self):
    self.assertEqual(translation.PAIRS, {'train': 4_590_101, 'test': 3003})
    self.assertEqual(
      prepare.TRAIN,
      ('news-commentary-v12.de-en', 'commoncrawl.de-en', 'europarl-v7.de-en'),
    )
    self.assertEqual((prepare.TEST, prepare.LANGUAGES),
                     ('newstest2014', ('en', 'de')))  # fmt: skip
    vocabulary = 'vocab.translate_ende_wmt32k.32768.subwords'
    self.assertEqual(
      prepare.MD5,
      {
        'newstest2014.en': 'dabf51a9c02b2235632f3cee75c72d49',
        'newstest2014.de': 'f6c3818b477e4a25cad68b61cc883c17',
        vocabulary: '0067c33184fa284ef6dc422dffcf8088',
      },
    )
    self.assertEqual((prepare.SIZE, prepare.MIN_COUNT), (32_768, 6))
    tolerance = subwords.build.__kwdefaults__['tolerance']
    self.assertEqual(int(tolerance * 32_768), 327)
    self.assertEqual(read.SUBWORDS, 33_708)
    for name in (subwords, model):
      end = name.EOS if name is subwords else name.END
      self.assertEqual((name.PAD, end), (0, 1))

  def test_batches(self):
    task = self.task(**SMALL)
    shapes = [spec['source'].shape for spec in task.train_specs]
    # 4096 tokens by the end of a bucket, one more than its longest pair.
    ends = [8]
    while ends[-1] < 256:
      ends.append(max(ends[-1] + 1, int(1.1 * ends[-1])))
    ends[-1] = 257
    self.assertEqual(shapes, [(4096 // end, end - 1) for end in ends])
    self.assertEqual(shapes[-1], (15, 256))
    lengths = np.array([[256, 1], [1, 257], [257, 1], [1, 256]])
    (block, *_) = task.blocks(task.facts_of(lengths))
    self.assertEqual(block.samples, 2)  # a side of more than 256 is left out
    kept, _ = buckets.pair_lengths(lengths, max_length=256)
    self.assertEqual([*kept], [0, 3])

  def test_evals(self):
    task = self.task(**SMALL)
    facts = task.facts_of(np.full((100, 2), 9))
    at = [block.at['epoch_num'] for block in task.blocks(facts)]
    self.assertEqual(at, [*range(1, len(at) + 1)])

  def test_the_model(self):
    params = program.abstract_state(self.task()).params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    self.assertEqual(count, 210_804_736)

  def test_dropout(self):
    """A tenth, of 2 sums, 4 places of an encoder block and 6 of a decoder's."""
    task = self.task()
    params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
    drop, rates = attention.drop, set()

    def recorded(x, rate, key):
      rates.add(rate)
      return drop(x, rate, key)

    with mock.patch.object(attention, 'drop', recorded):
      traced = jax.make_jaxpr(task.loss)(
        params, stats, dict(task.train_specs[-1]), jax.random.key(0)
      )
    self.assertEqual(rates, {0.1})
    found = [
      each.outvars[0].aval.shape
      for each in spec_table.equations(traced.jaxpr)
      if each.primitive.name == 'random_bits'
    ]
    hidden, inner, weights = (
      (15, 256, 1024),
      (15, 256, 4096),
      (15, 16, 256, 256),
    )
    self.assertEqual(found.count(hidden), 2 + 2 + 3)
    self.assertEqual(found.count(inner), 2)
    self.assertEqual(found.count(weights), 3)
    self.assertLen(found, 12)

  def test_the_start(self):
    size = model.Size(500, 1, 64, 4, 256)
    transformer = model.Transformer(size, rngs=nnx.Rngs(3))
    embedding = transformer.embedding[...]
    self.assertAlmostEqual(float(embedding.std()) * 8, 1, delta=0.02)
    block = transformer.decoder.blocks
    square, wide = math.sqrt(6 / (64 + 64)), math.sqrt(6 / (64 + 256))
    for layer, bound in (
      (block.attention.query, square),
      (block.attention.key, square),
      (block.attention.value, square),
      (block.attention.output, square),
      (block.ffn.up, wide),
      (block.ffn.down, wide),
    ):
      largest = float(abs(layer.kernel[...]).max())
      self.assertBetween(largest, 0.95 * bound, bound)
    for layer in (block.ffn.up, block.ffn.down):
      np.testing.assert_array_equal(layer.bias[...], 0)
    for name in ('query', 'key', 'value', 'output'):
      self.assertIsNone(getattr(block.attention, name).bias)
    norms = [
      each
      for _, each in nnx.iter_modules(transformer)
      if isinstance(each, nnx.LayerNorm)
    ]
    self.assertLen(norms, 2 + 3 + 2)
    for norm in norms:
      self.assertEqual(norm.epsilon, 1e-6)
      np.testing.assert_array_equal(norm.scale[...], 1)
      np.testing.assert_array_equal(norm.bias[...], 0)

  def test_positions(self):
    found = model.signal(jnp.arange(256), 1024)
    for channel in (0, 1, 300, 511):
      rate = math.exp(-channel * math.log(1e4) / 511)
      for place in (0, 1, 255):
        self.assertAlmostEqual(
          float(found[place, channel]), math.sin(place * rate), delta=1e-4
        )
        self.assertAlmostEqual(
          float(found[place, 512 + channel]), math.cos(place * rate), delta=1e-4
        )

  def test_embeddings_are_scaled_and_padding_is_nothing(self):
    transformer = model.Transformer(
      model.Size(10, 1, 16, 2, 8), rngs=nnx.Rngs(0)
    )
    found = transformer._embed(jnp.array([[3, 0]]), jnp.array([[0, 1]]))
    signal = model.signal(jnp.array([[0, 1]]), 16)
    np.testing.assert_allclose(
      found[0, 0], 4 * transformer.embedding[...][3] + signal[0, 0], rtol=1e-6
    )
    np.testing.assert_allclose(found[0, 1], signal[0, 1], rtol=1e-6)

  def test_the_loss(self):
    for size in (4, 33_708):  # smoothing shows where tokens are few
      logits = np.random.default_rng(0).normal(size=(1, 3, size))
      targets = np.array([[3, 1, 0]])
      found = model.token_losses(
        jnp.float32(logits), jnp.asarray(targets), smoothing=0.1
      )
      logs = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
      low = 0.1 / (size - 1)
      least = 0.9 * np.log(0.9) + (size - 1) * low * np.log(low + 1e-20)
      for place, target in enumerate(targets[0]):
        soft = np.full(size, low)
        soft[target] = 0.9
        expected = 0.0 if target == 0 else -(soft * logs[place]).sum() + least
        self.assertAlmostEqual(float(found[0, place]), expected, places=3)

  def update(self, step, gradient=1e-8, mu=0.0, nu=0.0):
    optimizer = self.task(**SMALL).optimizer
    params = {'w': jnp.zeros(2)}
    like = lambda value: {'w': jnp.full(2, value)}  # noqa: E731
    state = optax.ScaleByAdamState(jnp.int32(step), like(mu), like(nu))
    updates, _ = optimizer.update(like(gradient), state, params)
    return float(updates['w'][0])

  def test_adam_adds_epsilon_before_the_correction(self):
    rate = 2 * 1024**-0.5 * (9 / 16_000) * 16_000**-0.5
    m = 0.9 * 2e-8 + 0.1 * 1e-8
    v = 0.997 * 1e-18 + 0.003 * 1e-16
    rate *= math.sqrt(1 - 0.997**10) / (1 - 0.9**10)
    np.testing.assert_allclose(
      self.update(9, 1e-8, 2e-8, 1e-18), -rate * m / (v**0.5 + 1e-9), rtol=1e-3
    )

  def test_the_learning_rate(self):
    for step, expected in (
      (0, 0.0),
      (8000, 2 * 1024**-0.5 * 0.5 * 16_000**-0.5),
      (16_000, 2 * 1024**-0.5 * 16_000**-0.5),
      (64_000, 2 * 1024**-0.5 * 64_000**-0.5),
    ):
      # With moments that have settled, the step is the rate.
      found = -self.update(step, 1.0, 1.0, 1.0)
      correction = math.sqrt(1 - 0.997 ** (step + 1)) / (1 - 0.9 ** (step + 1))
      np.testing.assert_allclose(found, expected * correction, rtol=1e-3)

  def test_the_beam_search(self):
    """Arguments of the search, and two numbers of its own."""
    asked = []

    def search(step, cache, start, **how):
      asked.append(how)
      shape = (*start.shape, how['beams'])
      tokens = jnp.zeros((*shape, how['max_length']), jnp.int32)
      return beam_search.Found(tokens, jnp.zeros(shape), jnp.int32(0))

    task = self.task(**SMALL)
    state = program.abstract_state(task)
    with mock.patch.object(beam_search, 'search', search):
      jax.eval_shape(task.predict, state, dict(task.eval_specs[-1]))
      transformer = model.Transformer(
        model.Size(10, 1, 16, 2, 8), rngs=nnx.Rngs(0)
      )
      source = jnp.array([[5, 6, 1, 0, 0], [7, 1, 0, 0, 0]])
      transformer.translate(source)
    whole, short = asked
    for how, longest in ((whole, 256), (short, 5)):
      self.assertEqual((how['beams'], how['alpha'], how['end']), (4, 0.6, 1))
      self.assertEqual(how['max_length'], longest + 50)
    # Of the longest source, as a batch of the reference is padded to it.
    self.assertEqual(int(short['limits']), 3 + 50)
    self.assertAlmostEqual(
      float(beam_search.length_penalty(7, 0.6)), (12 / 6) ** 0.6, places=6
    )
    self.assertEqual(attention._MASKED, -1e9)
    log_probs, logits = jnp.zeros((1, 4)), jnp.zeros((4, 10))
    candidates, _, _ = beam_search._continue(log_probs, logits)
    self.assertEqual(candidates.shape, (1, 2 * 4))

  def test_bleu(self):
    self.assertEqual(bleu.ORDER, 4)
    self.assertEqual(
      bleu.tokenize('Es kostet 3.5 $, ja.'),
      ['Es', 'kostet', '3.5', '$', ',', 'ja', '.'],
    )
    # 3 of 5 words and 1 of 4 pairs match; no triple, which counts as half a
    # match of 3, and no four, as a quarter of 2.
    found = bleu.bleu(['a b c d e'], ['A b x y e'])
    expected = (3 / 5 * 1 / 4 * (1 / 2 / 3) * (1 / 4 / 2)) ** 0.25
    self.assertAlmostEqual(found, expected, places=9)
    # A word less costs exp(1 - 6 / 5).
    found = bleu.bleu(['a b c d e f'], ['a b c d e'])
    self.assertAlmostEqual(found, math.exp(1 - 6 / 5), places=9)


if __name__ == '__main__':
  absltest.main()
