"""Numbers that the specification of GNMT fixes, each stated once.

From mlcommons/training, retired_benchmarks/gnmt (pytorch and
download_dataset.sh), and the rules of rounds v0.5 to v0.7: training_rules.adoc
of mlcommons/training_policies, training_0.6.0/gnmt.yaml and
training_0.7.0/closed_gnmt.yaml of mlcommons/logging. The numbers of pairs and
of parameters are those of published logs.
"""

import math
from unittest import mock

from absl.testing import absltest
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines import translation
from input_pipelines.text import bpe, moses
from input_pipelines.translation import wmt16
from models import gnmt as model
from models.parts import attention, beam_search
from suite import benchmark, hparams
from suite.hparams import Division
from suite.run import program
from tests.suite.benchmarks import spec_table

WMT16 = ('wmt16_en_de', 3_498_161, 3003)
TABLE = spec_table.Table(
  name='gnmt',
  runs=10,
  dropped=1,
  sizes={
    'reference': ('0.7.0', {'BLEU': {'at_least': 0.24}}, WMT16, 20),
    'v0.6': ('podium-gnmt-v0.6', {'BLEU': {'at_least': 0.24}}, WMT16, 0),
    'v0.5': ('podium-gnmt-v0.5', {'BLEU': {'at_least': 0.218}}, WMT16, 0),
  },
  fixed={
    'decay_factor': 0.5,
    'decay_steps': 4,
    'beta_1': 0.9,
    'beta_2': 0.999,
    'epsilon': 1e-8,
    'clip_norm': 5.0,
    'buckets': 5,
    'epochs_between_evals': 1,
    'beams': 5,
    'length_exponent': 0.6,
    'coverage_factor': 0.1,
    'longest_translation': 149,
    'dropout': 0.2,
    'label_smoothing': 0.1,
    'subwords': 32_320,
    'layers': 4,
    'width': 1024,
    'start_range': 0.1,
  },
  tunable={
    'global_batch_size': 128,
    'base_learning_rate': 1e-3,
    'alt_warmup': True,
    'warmup_steps': 200,
    'alt_decay': True,
    'remain_steps': 145_598,
    'decay_interval': 18_254,
    'max_sequence_length': 50,
    'max_epochs': 8,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'remat',
    'unroll',
    'lstm_kernel',
    'eval_batch_size',
    'eval_lengths',
  ),
  changed={
    'v0.5': {
      'base_learning_rate': 5e-4,
      'alt_warmup': False,
      'alt_decay': False,
    }
  },
  allowed=(
    {'global_batch_size': '3072', 'base_learning_rate': '2.875e-3'},
    {'remain_steps': '4054', 'decay_interval': '506'},
    {'warmup_steps': '0', 'alt_warmup': 'false', 'alt_decay': 'false'},
    {'max_sequence_length': '75'},
  ),
  refused=(
    {'decay_factor': '0.6'},
    {'decay_steps': '5'},
    {'beta_1': '0.8'},
    {'beta_2': '0.98'},
    {'epsilon': '1e-9'},
    {'clip_norm': '1'},
    {'buckets': '6'},
    {'dropout': '0'},
    {'beams': '4'},
    {'eval_lengths': '64,32'},
    {'lstm_kernel': 'fast'},
    {'gradient_accumulation_steps': '3'},
  ),
  logged={
    'global_batch_size': 128,
    'opt_base_learning_rate': 1e-3,
    'opt_learning_rate_alt_warmup_func': True,
    'opt_learning_rate_warmup_steps': 200,
    'opt_learning_rate_alt_decay_func': True,
    'opt_learning_rate_remain_steps': 145_598,
    'opt_learning_rate_decay_interval': 18_254,
    'opt_learning_rate_decay_factor': 0.5,
    'opt_learning_rate_decay_steps': 4,
    'opt_adam_beta_1': 0.9,
    'opt_adam_beta_2': 0.999,
    'opt_adam_epsilon': 1e-8,
    'opt_gradient_clip_norm': 5.0,
    'max_sequence_length': 50,
    'gradient_accumulation_steps': 1,
  },
)
# Of the reference, with a small model where it makes no difference.
SMALL = {'layers': 2, 'width': 4, 'subwords': 10}


class GNMTSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_schedule_is_the_reference_s_of_its_pairs_and_epochs(self):
    """As WarmupMultiStepLR finds them, of batches that no bucket cuts."""
    hp = self.size().hparams
    steps = 8 * 27_327  # 3,498,161 pairs by 128, less what fills no batch
    self.assertEqual(hp.remain_steps, int(0.666 * steps))
    self.assertEqual(hp.decay_interval, (steps - hp.remain_steps) // 4)
    self.assertBetween(3_498_161 / 128 - 27_327, 0, 5)

  def test_published_recipes_are_closed(self):
    for batch, rate, warmup, remain, interval, longest in (
      (2048, 2.0e-3, 200, 6453, 809, 75),
      (4096, 3.5e-3, 150, 4000, 300, 48),
      (16_384, 5.0e-3, 200, 1605, 201, 75),
    ):
      hp = hparams.override(
        self.size().hparams,
        {
          'global_batch_size': str(batch),
          'base_learning_rate': str(rate),
          'warmup_steps': str(warmup),
          'remain_steps': str(remain),
          'decay_interval': str(interval),
          'max_sequence_length': str(longest),
        },
        Division.CLOSED,
      )
      self.assertEqual(hp.max_sequence_length, longest)

  def test_the_log_says_that_longer_pairs_are_left_out(self):
    self.assertEqual(
      hparams.beside(self.size().hparams),
      {'max_sequence_length': {'method': 'discard'}},
    )

  def test_the_data_set(self):
    self.assertEqual(
      (translation.NAME_16, translation.PAIRS_16, translation.COUNTED_16),
      ('wmt16_en_de', {'train': 3_498_161, 'test': 3003}, 50),
    )
    self.assertEqual(
      wmt16.TRAIN,
      ('europarl-v7.de-en', 'commoncrawl.de-en', 'news-commentary-v11.de-en'),
    )
    self.assertEqual(
      (wmt16.TEST, wmt16.MERGES, wmt16.MULTIPLE, wmt16.MOST_WORDS),
      ('newstest2014', 32_000, 8, 80),
    )
    self.assertEqual(
      wmt16.MD5,
      {
        'train.tok.clean.bpe.32000.en': 'b7482095b787264a310d4933d197a134',
        'train.tok.clean.bpe.32000.de': '409064aedaef5b7c458ff19a7beda462',
        'newstest2014.tok.bpe.32000.en': 'cb014e2509f86cd81d5a87c240c07464',
        'newstest2014.de': 'f6c3818b477e4a25cad68b61cc883c17',
      },
    )
    self.assertEqual((moses.MAX_RATIO, moses.MAX_WORD), (9, 1000))
    ids = (0, 1, 2, 3)
    self.assertEqual((bpe.PAD, bpe.UNKNOWN, bpe.START, bpe.EOS), ids)
    self.assertEqual((model.PAD, model.UNKNOWN, model.START, model.END), ids)
    self.assertEqual(bpe.RESERVED, ('<pad>', '<unk>', '<s>', '<\\s>'))
    self.assertEqual(bpe.MARK, '@@')
    self.assertEqual(bpe.learn.__kwdefaults__['min_count'], 2)

  def test_batches(self):
    task = self.task(**SMALL)
    shapes = [spec['source'].shape for spec in task.train_specs]
    self.assertEqual(shapes, [(128, n) for n in (9, 19, 29, 39, 50)])
    lengths = np.array([[50, 3], [3, 51], [51, 3], [9, 9], [10, 9], [2, 50]])
    lengths = np.repeat(lengths, 128, axis=0)
    # One pair more in a bucket fills no batch.
    lengths = np.concatenate([lengths, [[20, 3]]])
    facts = task.facts_of(lengths)
    self.assertEqual(facts.plan.pairs, 4 * 128)
    found = {
      int(facts.plan.group(1, step).shape.source): step for step in range(4)
    }
    self.assertEqual({*found}, {9, 19, 50})

  def test_evals(self):
    task = self.task(**SMALL)
    facts = task.facts_of(np.full((500, 2), 9))
    at = [block.at['epoch_num'] for block in task.blocks(facts)]
    self.assertEqual(at, [*range(1, 9)])

  def test_the_model(self):
    params = program.abstract_state(self.task()).params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    self.assertEqual(count, 160_671_297)
    self.assertEqual(count, 94_447_617 + 2049 * 32_320)

  def test_dropout(self):
    """A fifth, of the inputs of 1 + 3 layers on either side."""
    task = self.task(**(SMALL | {'layers': 4}))
    params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
    rates, shapes = set(), []

    def recorded(x, rate, key):
      del key
      rates.add(rate)
      shapes.append(x.shape[1:])
      return x

    with mock.patch.object(attention, 'drop', recorded):
      jax.eval_shape(
        task.loss, params, stats, dict(task.train_specs[0]), jax.random.key(0)
      )
    self.assertEqual(rates, {0.2})
    self.assertEqual(shapes[:4], [(9, 4), (9, 8), (9, 4), (9, 4)])
    self.assertEqual(shapes[4:], [(8, 4), (8, 8), (8, 8), (8, 8)])

  def test_the_start(self):
    size = model.Size(50, 3, 64)
    gnmt = model.GNMT(size, compute=model.Compute(), rngs=nnx.Rngs(3))
    for path, leaf in nnx.to_flat_state(nnx.state(gnmt, nnx.Param)):
      name, values = '/'.join(map(str, path)), np.asarray(leaf[...])
      if name.endswith(('hidden_bias', 'attention/bias')):
        self.assertFalse(values.any(), name)
      elif name.endswith('attention/scale'):
        np.testing.assert_allclose(values, [64**-0.5], err_msg=name)
      else:
        self.assertBetween(float(abs(values).max()), 0.08, 0.1, name)
        self.assertLess(abs(float(values.mean())), 0.04, name)

  def test_the_loss(self):
    logits = np.random.default_rng(0).normal(size=(1, 3, 7))
    targets = np.array([[3, 1, 0]])
    found = model.token_losses(
      jnp.float32(logits), jnp.asarray(targets), smoothing=0.1
    )
    logs = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
    for place, target in enumerate(targets[0]):
      expected = -0.9 * logs[place, target] - 0.1 * logs[place].mean()
      self.assertAlmostEqual(
        float(found[0, place]), expected if target else 0.0, places=5
      )

  def update(self, step, gradient, **changes):
    """The update of a parameter with moments as after many such gradients."""
    optimizer = self.task(**SMALL, **changes).optimizer
    params = {'w': jnp.zeros(4)}
    _, (clip, state) = None, optimizer.init(params)
    state = state._replace(
      count=jnp.int32(step),
      mu={'w': jnp.full(4, gradient)},
      nu={'w': jnp.full(4, gradient**2)},
    )
    updates, _ = optimizer.update(
      {'w': jnp.full(4, gradient)}, (clip, state), params
    )
    return float(updates['w'][0])

  def test_adam_adds_epsilon_before_the_correction(self):
    rate = 1e-3 * math.sqrt(1 - 0.999**300) / (1 - 0.9**300)
    np.testing.assert_allclose(
      self.update(299, 1e-8), -rate * 1e-8 / (1e-8 + 1e-8), rtol=1e-4
    )

  def test_the_norm_of_gradients_is_at_most_5(self):
    # Four of 5 have the norm 10; half of them moves the first moment.
    optimizer = self.task(**SMALL).optimizer
    params = {'w': jnp.zeros(4)}
    _, state = optimizer.update(
      {'w': jnp.full(4, 5.0)}, optimizer.init(params), params
    )
    np.testing.assert_allclose(state[1].mu['w'], 0.1 * 2.5, rtol=1e-5)
    np.testing.assert_allclose(state[1].nu['w'], 1e-3 * 2.5**2, rtol=1e-5)

  def test_the_learning_rate(self):
    for step, expected in (
      (1, 1e-3 * 0.01 ** (199 / 200)),
      (100, 1e-4),
      (200, 1e-3),
      (145_597, 1e-3),
      (145_598, 5e-4),
      (145_598 + 18_254, 2.5e-4),
      (145_598 + 3 * 18_254, 1e-3 / 16),
      (145_598 + 9 * 18_254, 1e-3 / 16),
    ):
      correction = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
      found = -self.update(step - 1, 1.0) / correction
      np.testing.assert_allclose(found, expected, rtol=2e-3)
    constant = {'alt_warmup': False, 'alt_decay': False}
    for step in (1, 300_000):
      correction = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
      found = -self.update(step - 1, 1.0, **constant) / correction
      np.testing.assert_allclose(found, 1e-3, rtol=2e-3)

  def test_the_beam_search(self):
    asked = []

    def search(step, cache, start, **how):
      asked.append((how, start))
      shape = (*start.shape, how['beams'])
      tokens = jnp.zeros((*shape, how['max_length']), jnp.int32)
      return beam_search.Found(tokens, jnp.zeros(shape), jnp.int32(0))

    task = self.task(**SMALL)
    state = program.abstract_state(task)
    with mock.patch.object(beam_search, 'search_together', search):
      jax.eval_shape(task.predict, state, dict(task.eval_specs[-1]))
    ((how, start),) = asked
    self.assertEqual(
      how,
      {
        'beams': 5, 'end': 3, 'max_length': 149, 'alpha': 0.6, 'coverage': 0.1,
        'memory_length': 150,
      },
    )  # fmt: skip
    self.assertEqual(start.shape, (128,))
    self.assertEqual(model._MASKED, -65504.0)

  def test_rounds_differ_as_their_rules_do(self):
    declared = benchmark.get('gnmt')
    self.assertEqual(
      {n: s.round for n, s in declared.sizes.items() if s.round},
      {'v0.6': 'v0.6', 'v0.5': 'v0.5'},
    )


if __name__ == '__main__':
  absltest.main()
