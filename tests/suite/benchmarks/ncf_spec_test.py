"""Numbers that the specification of NCF fixes, each stated once.

From mlcommons/training, recommendation/pytorch as of round v0.5 (ncf.py,
convert.py, neumf.py, run_and_time.sh), its later version for expanded data, and
the rules of rounds v0.5 and v0.6: training_rules.adoc of
mlcommons/training_policies. Counts are those of published logs.
"""

import functools
from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.movielens import expand, prepare
from input_pipelines.movielens import read as movielens
from models import ncf as model
from models.parts.functional import Functional
from suite.benchmarks.ncf import task as ncf_task
from suite.run.task import Facts
from tests.suite.benchmarks import spec_table

STEPS = -(-5 * 19_861_770 // 2048)  # the last batch of an epoch is not full


TABLE = spec_table.Table(
  # The rules would have 100 runs, of which the first 50 to converge count; the
  # official table of counts, which no round ever used, has 10.
  name='ncf',
  runs=10,
  dropped=1,
  sizes={
    'reference': (
      'podium-ncf-1',
      {'HR@10': {'at_least': 0.635}},
      ('movielens_20m', 19_861_770, 138_493),
      0,
    ),
    'expanded': (
      'podium-ncf-1',
      {'HR@10': {'at_least': 0.51}},
      ('movielens_20m_16x32', 1_223_962_043, 2_197_225),
      0,
    ),
  },
  fixed={
    'epsilon': 1e-8,
    'epochs_between_evals': 1,
    'negatives': 4,
    'reject_positives': True,
    'eval_negatives': 999,
    'hit_rank': 10,
    'users': 138_493,
    'items': 26_744,
    'mf_width': 64,
    'mlp_layers': (256, 256, 128, 64),
  },
  tunable={
    'global_batch_size': 2048,
    'opt_name': 'adam',
    'base_learning_rate': 5e-4,
    'beta_1': 0.9,
    'beta_2': 0.999,
    'max_epochs': 20,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'table_row_multiple',
    'eval_batch_size',
  ),
  changed={
    'expanded': {
      'global_batch_size': 65_536,
      'base_learning_rate': 2e-4,
      'reject_positives': False,
      'users': 2_197_225,
      'items': 855_776,
    }
  },
  allowed=(
    {'opt_name': 'lazy_adam'},
    {
      'global_batch_size': '1048576',
      'base_learning_rate': '0.0045',
      'beta_1': '0.25',
      'beta_2': '0.5',
      'compute_dtype': 'bfloat16',
    },
    {'beta_1': '0.783529', 'beta_2': '0.909003'},
    {'beta_1': '0', 'beta_2': '0'},
  ),
  refused=(
    {'opt_name': 'sgd'},
    {'epsilon': '1.45439e-7'},
    {'beta_1': '1'},
    {'beta_2': '1'},
    {'base_learning_rate': '0'},
    {'negatives': '3'},
  ),
  logged={
    'global_batch_size': 2048,
    'opt_name': 'adam',
    'opt_base_learning_rate': 5e-4,
    'opt_adam_beta_1': 0.9,
    'opt_adam_beta_2': 0.999,
    'opt_adam_epsilon': 1e-8,
    'gradient_accumulation_steps': 1,
  },
)


class NcfSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_data_set(self):
    self.assertEqual(prepare.MD5, 'cd245b17a1ae2cc31bb14903e1204af3')
    self.assertEqual(prepare.MIN_RATINGS, 20)
    self.assertEqual((movielens.USERS, movielens.ITEMS), (138_493, 26_744))
    self.assertEqual(movielens.ROWS, {'train': 19_861_770, 'test': 138_493})
    self.assertEqual(expand.FACTORS, (16, 32))
    self.assertEqual(
      (expand.USERS, expand.ITEMS, expand.TRAIN),
      (2_197_225, 855_776, 1_223_962_043),
    )
    # A user needs more than two times of rating; an element of the product is
    # kept with a rate from 1 - 0.99 to 1 - 0.05.
    self.assertEqual((expand._MIN_TIMES, expand._SEED), (3, 0))
    self.assertEqual(expand._RATES, (0.01, 0.95))

  def test_the_candidates_of_every_eval_are_those_of_seed_0(self):
    self.assertEqual(ncf_task.EVAL_SEED, 0)

  def test_the_model(self):
    task = self.task()
    params, _ = jax.eval_shape(task.init_model, jax.random.key(0))
    self.assertEqual(sum(p.size for p in jax.tree.leaves(params)), 31_832_577)
    shapes = {k: t.shape for k, t in params['tables'].items()}
    # 64 for the product, and 128 of the 256 that go into the perceptron.
    self.assertEqual(shapes, {'user': (138_493, 192), 'item': (26_744, 192)})
    layers = params['tower']['mlp'].values()
    kernels = [layer['kernel'].shape for layer in layers]
    self.assertEqual(kernels, [(256, 256), (256, 128), (128, 64)])
    self.assertEqual(params['tower']['final']['kernel'].shape, (128, 1))

  def test_the_start(self):
    size = model.Size(2000, 10, 64, (256, 256, 128, 64))
    for make in (model.Tables, model.Tower):
      init = Functional.of(lambda rngs, make=make: make(size, rngs=rngs)).init
      params, _ = jax.jit(init)(jax.random.key(3, impl='rbg'))
      if make is model.Tables:
        self.assertAlmostEqual(float(params['user'].std()), 0.01, delta=1e-4)
        self.assertGreater(float(abs(params['user']).max()), 0.035)
        continue
      bounds = [  # Glorot's of the perceptron, LeCun's of the last layer
        (layer, np.sqrt(6 / sum(layer['kernel'].shape)))
        for layer in params['mlp'].values()
      ] + [(params['final'], np.sqrt(3 / 128))]
      for layer, bound in bounds:
        kernel, bias = layer['kernel'], layer['bias']
        self.assertBetween(float(abs(kernel).max()), 0.93 * bound, bound)
        limit = kernel.shape[0] ** -0.5  # PyTorch's
        self.assertLessEqual(float(abs(bias).max()), limit)
        if bias.size > 1:
          self.assertGreater(float(abs(bias).max()), 0.9 * limit)

  def test_adam(self):
    """Its update where epsilon is half of what it divides by."""
    for name in ('adam', 'lazy_adam'):
      optimizer = self.task(opt_name=name).optimizer
      params = {'w': jnp.zeros(2)}
      grads = {'w': jnp.full(2, 1e-8)}
      state = optax.ScaleByAdamState(
        jnp.int32(9), {'w': jnp.full(2, 3e-8)}, {'w': jnp.full(2, 2e-18)}
      )
      if name == 'adam':
        whole = optimizer.init(params)
        whole = (state, *whole[1:])
        updates, _ = optimizer.update(grads, whole, params)
      else:
        updates, _ = optimizer.apply(grads, state, params)
      m = (0.9 * 3e-8 + 0.1 * 1e-8) / (1 - 0.9**10)
      v = (0.999 * 2e-18 + 0.001 * 1e-16) / (1 - 0.999**10)
      np.testing.assert_allclose(
        updates['w'], -5e-4 * m / (np.sqrt(v) + 1e-8), rtol=1e-3, err_msg=name
      )

  def test_the_loss_is_the_mean_cross_entropy_of_a_sigmoid(self):
    task = self.task()
    tower = mock.Mock()
    logits = jnp.float32([2.0, -1.0, 0.5, 9.0])
    tower.apply.return_value = (logits, {})
    batch = {
      'user': jnp.zeros(4, int), 'item': jnp.zeros(4, int),
      'label': jnp.float32([1, 0, 0, 1]), 'weight': jnp.float32([1, 1, 1, 0]),
    }  # fmt: skip
    with mock.patch.object(task, '_tower', tower):
      tables = dict.fromkeys(('user', 'item'), jnp.zeros((1, 1)))
      params = {'tables': tables, 'tower': {}}
      loss, _ = task.loss(params, {}, batch, None)
    expected = np.log1p(np.exp([-2.0, -1.0, 0.5])).mean()
    self.assertAlmostEqual(float(loss), expected, places=6)

  @functools.cached_property
  def scored(self):
    """Hits among 1000 candidates: scores of the others -> [] of one user."""
    task = self.task(eval_batch_size=1)

    def hits(scores, valid):
      tower = mock.Mock()
      tower.apply.return_value = (jnp.float32([scores]), {})
      batch = {
        'user': jnp.zeros(1, int),
        'item': jnp.zeros((1, 1000), int),
        'valid': jnp.array([valid]),
        'weight': jnp.ones(1),
      }
      state = mock.Mock(
        params={
          'tables': dict.fromkeys(('user', 'item'), jnp.zeros((1, 1))),
          'tower': {},
        }
      )
      with mock.patch.object(task, '_tower', tower):
        return float(task.predict(state, batch)['hits'])

    return hits

  def test_a_hit_is_among_the_first_ten_and_ties_count_against_it(self):
    for above, tied, expected in ((9, 0, 1), (10, 0, 0), (8, 1, 1), (9, 1, 0)):
      others = np.full(999, -1.0)
      others[:above], others[above : above + tied] = 1.0, 0.0
      valid = np.ones(1000, bool)
      with self.subTest(f'{above} above, {tied} tied'):
        self.assertEqual(self.scored([*others, 0.0], valid), expected)
    valid[:1] = False  # a repeat of another candidate
    others = np.full(999, -1.0)
    others[:10] = 1.0
    self.assertEqual(self.scored([*others, 0.0], valid), 1)

  def test_epochs_and_evals(self):
    blocks = self.task().blocks(Facts())
    self.assertEqual([b.at['epoch_num'] for b in blocks], [*range(1, 21)])
    self.assertEqual({b.steps for b in blocks}, {STEPS})


if __name__ == '__main__':
  absltest.main()
