"""Numbers that the specification of BERT fixes, each stated once.

From mlcommons/training, retired_benchmarks/bert, the rules of rounds v0.7 to
v5.0 (training_rules.adoc of mlcommons/training_policies), closed_bert.yaml and
the convergence points of mlcommons/logging.
"""

import dataclasses
import math

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines import wikipedia
from input_pipelines.wikipedia import prepare, samples
from models import bert as model
from suite import benchmark
from suite import hparams as hparams_lib
from suite.benchmarks.bert import names, start
from suite.run import program
from tests.suite.benchmarks import spec_table

WIKIPEDIA = ('wikipedia_20200101', 6_000_000, 10_000)


def _accuracy(bound):
  return {'masked_lm_accuracy': {'at_least': bound}}


TABLE = spec_table.Table(
  name='bert',
  runs=10,
  dropped=1,
  sizes={
    'reference': ('5.0.0', _accuracy(0.72), WIKIPEDIA, 30),
    'v0.7': ('0.7.0', _accuracy(0.712), WIKIPEDIA, 20),
  },
  fixed={
    'evaluated_on': 'held_out',
    'eval_slope': 230.23,
    'eval_offset': 3_000_000,
    'eval_share': 0.05,
    'eval_multiple': 25_000,
    'first_eval': 0,
    'decay_power': 1.0,
    'clip_norm': 1.0,
    'dropout': 0.1,
    'length': 512,
    'predictions': 76,
    'vocabulary': 30_522,
    'layers': 24,
    'width': 1024,
    'heads': 16,
    'ffn': 4096,
  },
  tunable={
    'global_batch_size': 448,
    'base_learning_rate': 4.25e-4,
    'training_steps': 6700,
    'warmup_steps': 0,
    'start_warmup_step': 0,
    'beta_1': 0.9,
    'beta_2': 0.999,
    'epsilon': 1e-6,
    'weight_decay': 0.01,
    'samples_per_row': 1,
    'mean_samples_per_row': 1.0,
  },
  changed={
    'v0.7': {
      'evaluated_on': 'first',
      'eval_slope': 0.0,
      'eval_offset': 10_000_000,
      'eval_multiple': 500_000,
      'first_eval': 3_000_000,
    }
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'attention',
    'remat',
    'unroll',
    'eval_batch_size',
    'max_samples',
  ),
  allowed=(
    {'global_batch_size': '8192', 'base_learning_rate': '2.88293e-3',
     'training_steps': '600', 'warmup_steps': '287',
     'start_warmup_step': '-76', 'beta_1': '0.88', 'beta_2': '0.88',
     'weight_decay': '0.0166629'},
    {'weight_decay': '0'},
    {'samples_per_row': '8', 'mean_samples_per_row': '1.95'},
    {'gradient_accumulation_steps': '4'},
  ),
  refused=(
    {'clip_norm': '2'},
    {'dropout': '0'},
    {'length': '128'},
    {'eval_multiple': '50000'},
    {'beta_1': '1'},
    {'training_steps': '0'},
    {'mean_samples_per_row': '2'},
    {'gradient_accumulation_steps': '3'},
    {'decay_power': '2'},
  ),
  logged={
    'global_batch_size': 448,
    'opt_base_learning_rate': 4.25e-4,
    'opt_learning_rate_training_steps': 6700,
    'opt_learning_rate_warmup_steps': 0,
    'num_warmup_steps': 0,
    'start_warmup_step': 0,
    'opt_lamb_beta_1': 0.9,
    'opt_lamb_beta_2': 0.999,
    'opt_lamb_epsilon': 1e-6,
    'opt_epsilon': 1e-6,
    'opt_lamb_weight_decay_rate': 0.01,
    'gradient_accumulation_steps': 1,
  },
)  # fmt: skip
# Of the reference, with a small model where it makes no difference.
SMALL = {'layers': 1, 'ffn': 8, 'heads': 2, 'width': 8, 'vocabulary': 30}


class BertSpecTest(spec_table.SpecTest, parameterized.TestCase):
  table = TABLE

  @parameterized.parameters(
    (256, 150_000), (448, 150_000), (1536, 150_000), (2048, 150_000),
    (3072, 175_000), (4096, 175_000), (6144, 200_000), (8192, 225_000),
  )  # fmt: skip
  def test_evals_come_every_so_many_samples(self, batch, interval):
    task = self.task(global_batch_size=batch, **SMALL)
    found = task.blocks(None)
    steps = -(-interval // batch)
    self.assertEqual([b.steps for b in found], [steps] * len(found))
    at = [b.at['epoch_num'] for b in found]
    self.assertEqual(at[:2], [steps * batch, 2 * steps * batch])
    self.assertEqual(at[0], {448: 150_080, 6144: 202_752}.get(batch, at[0]))
    self.assertGreaterEqual(at[-1], 6_000_000)

  def test_round_v07_has_its_own_evals(self):
    size = self.size('v0.7')
    task = benchmark.get('bert').task(size.hparams, size.data)
    at = [b.at['epoch_num'] for b in task.blocks(None)]
    for found, expected in zip(
      at, range(3_000_000, 10**7, 500_000), strict=False
    ):
      self.assertBetween(found - expected, 0, 448 * (1 + len(at)))

  def test_the_model(self):
    task = self.task()
    params = program.abstract_state(task).params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    self.assertEqual(count, 336_226_108)
    self.assertEqual((model._EPSILON, model._STDDEV), (1e-12, 0.02))
    self.assertLen(task.tensors, 398)
    self.assertLen({*task.tensors}, 398)
    for name in (
      'bert/embeddings/token_type_embeddings',
      'bert/encoder/layer_23/attention/self/value/bias',
      'bert/encoder/layer_0/intermediate/dense/kernel',
      'cls/predictions/transform/LayerNorm/gamma',
      'cls/seq_relationship/output_weights',
    ):
      self.assertIn(name, task.tensors)

  def test_weights_have_the_shapes_of_the_variables(self):
    """Two layers of two heads; the reference's kernels are [in, out]."""
    rng = np.random.default_rng(0)
    shapes = {
      'word_embeddings': (30, 8), 'position_embeddings': (512, 8),
      'token_type_embeddings': (2, 8), 'intermediate/dense/kernel': (8, 12),
      'intermediate/dense/bias': (12,), 'layer_0/output/dense/kernel': (12, 8),
      'layer_1/output/dense/kernel': (12, 8), 'predictions/output_bias': (30,),
      'output_weights': (2, 8), 'relationship/output_bias': (2,),
      'kernel': (8, 8), '': (8,),
    }  # fmt: skip
    given = {
      name: rng.normal(
        size=next(v for k, v in shapes.items() if name.endswith(k))
      )
      for name in names.tensors(2)
    }
    found = start.converted(given, layers=2, heads=2)
    task = self.task(**SMALL | {'layers': 2, 'ffn': 12})
    params = program.abstract_state(task).params
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      self.assertEqual(found[f'params/{name}'].shape, leaf.shape, name)
    blocks = 'params/encoder/blocks'
    layer = 'bert/encoder/layer_1/attention'
    x = rng.normal(size=8)
    np.testing.assert_allclose(
      np.einsum('w,whd->hd', x, found[f'{blocks}/attention/query/kernel'][1]),
      (x @ given[f'{layer}/self/query/kernel']).reshape(2, 4),
    )
    np.testing.assert_allclose(
      np.einsum(
        'hd,hdw->w',
        x.reshape(2, 4),
        found[f'{blocks}/attention/output/kernel'][1],
      ),
      x @ given[f'{layer}/output/dense/kernel'],
    )
    np.testing.assert_allclose(
      x @ found['params/next/kernel'],
      given['cls/seq_relationship/output_weights'] @ x,
    )

  def test_a_checkpoint_without_a_variable_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'and 1 other variables'):
      start.converted(dict.fromkeys(names.tensors(2)[2:]), layers=2, heads=2)

  def test_the_start(self):
    self.assertEqual(start.ACCURACY, 0.34085)
    self.assertEqual(
      start.MD5,
      {
        'model.ckpt-28252.index': 'f97de3ae180eb8d479555c939d50d048',
        'model.ckpt-28252.data-00000-of-00001':
          '50797acd537880bfb5a7ade80d976129',
      },
    )  # fmt: skip
    self.assertEqual(self.task(**SMALL).given, ('^params/',))

  def test_the_data_set(self):
    self.assertEqual(wikipedia.EVAL, 10_000)
    self.assertEqual((prepare.PARTS, prepare.TOKENS), (500, 30_522))
    self.assertEqual(samples.Settings(), samples.Settings(
      length=512, predictions=76, share=0.15, passes=10, seed=12345
    ))  # fmt: skip
    self.assertEqual(
      (samples._SHORT, samples._RANDOM_NEXT, samples._MASKED, samples._KEPT),
      (0.1, 0.5, 0.8, 0.5),
    )
    self.assertEqual(
      prepare.MD5,
      {
        'vocab.txt': '64800d5d8528ce344256daf115d4965e',
        'eval.txt': '2a220f790517261547b1b45ed3ada07a',
        'part-00000-of-00500': 'a64a7c31eff5cd38ae6d94f7a6229dab',
        'part-00499-of-00500': 'b3b087ad24e3770d879a351664cebc5a',
      },
    )

  def test_the_log_has_both_names_of_two_values(self):
    """num_warmup_steps beside opt_learning_rate_warmup_steps, and epsilon's."""
    hp = dataclasses.replace(self.size().hparams, warmup_steps=7, epsilon=1e-5)
    found = hparams_lib.logged(hp)
    for key in ('num_warmup_steps', 'opt_learning_rate_warmup_steps'):
      self.assertEqual(found[key], 7)
    for key in ('opt_epsilon', 'opt_lamb_epsilon'):
      self.assertEqual(found[key], 1e-5)

  def test_the_optimizer_is_lamb_on_the_schedule(self):
    """A clip of 1, no decay or ratio of norms and biases, ratios by layer."""
    task = self.task(**SMALL | {'layers': 2}, training_steps=10)
    params = jax.tree.map(
      lambda leaf: jnp.ones(leaf.shape), program.abstract_state(task).params
    )
    blocks = params['encoder']['blocks']
    up = blocks['up']['kernel']
    blocks['up']['kernel'] = up * jnp.asarray([1.0, 2.0])[:, None, None]
    grads = jax.tree.map(jnp.ones_like, params)
    state, update = task.optimizer.init(params), jax.jit(task.optimizer.update)
    for step in range(2):
      updates, state = update(grads, state, params)
      rate = 4.25e-4 * (1 - step / 10)
      found = updates['encoder']['blocks']
      # The gradient over its root is 1, but for epsilon: |w| / |u| = w / u.
      for layer, w in enumerate((1.0, 2.0)):
        np.testing.assert_allclose(
          found['up']['kernel'][layer], -rate * w, rtol=1e-3
        )
      np.testing.assert_allclose(found['up']['bias'], -rate, rtol=1e-3)
      np.testing.assert_allclose(found['ffn_norm']['scale'], -rate, rtol=1e-3)
    norm = math.sqrt(sum(g.size for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(
      state.mu['pooler']['bias'], (1 - 0.9**2) / norm, rtol=1e-4
    )


if __name__ == '__main__':
  absltest.main()
