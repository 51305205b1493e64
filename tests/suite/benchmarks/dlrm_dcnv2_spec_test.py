"""Numbers that the specification of DLRM-DCNv2 fixes, each stated once.

From mlcommons/training, recommendation_v2/torchrec_dlrm (README.MD,
dlrm_main.py, multi_hot.py), pytorch/torchrec (modules/crossnet.py,
models/dlrm.py), torch.optim.Adagrad, and the rules of rounds v3.0 to v6.0.
"""

import types

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from suite.run.program import abstract_state
from tests import quick
from tests.suite.benchmarks import clicks_spec, spec_table

TABLES = (
  40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956,
  405282, 10, 2209, 11938, 155, 4, 976, 14, 40000000, 40000000, 40000000,
  590152, 12973, 108, 36,
)  # fmt: skip
LOOKUPS = (
  3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3,
  1, 1,
)  # fmt: skip
TABLE = spec_table.Table(
  name='dlrm_dcnv2',
  runs=10,
  dropped=1,
  sizes={
    'reference': (
      '6.0.0',
      {'AUC': {'at_least': 0.80275}},
      ('criteo_1tb_multi_hot', *clicks_spec.SAMPLES),
      30,
    ),
  },
  fixed={
    **clicks_spec.FIXED,
    'opt_name': 'adagrad',
    'learning_rate_decay': 0,
    'weight_decay': 0,
    'initial_accumulator': 0.0,
    'epsilon': 1e-8,
    'warmup_steps': 0,
    'decay_start_step': 0,
    'decay_steps': 0,
    'tables': TABLES,
    'lookups': LOOKUPS,
    'cross_layers': 3,
    'cross_rank': 512,
  },
  tunable={'global_batch_size': 65_536, 'base_learning_rate': 0.004},
  of_the_system=(*clicks_spec.OF_THE_SYSTEM, 'table_groups'),
  allowed=(
    {'global_batch_size': '135168', 'base_learning_rate': '0.0034'},
    {'global_batch_size': '16384', 'base_learning_rate': '0.005'},
    {'gradient_accumulation_steps': '2', 'compute_dtype': 'bfloat16'},
    {'table_groups': '4'},
  ),
  refused=(
    {'opt_name': 'sgd'},
    {'epsilon': '1e-10'},
    {'initial_accumulator': '0.1'},
    {'weight_decay': '1'},
    {'warmup_steps': '100'},
    {'decay_steps': '100'},
    {'decay_start_step': '100'},
    {'learning_rate_decay': '1'},
    {'cross_rank': '256'},
    {'table_groups': '6'},
  ),
  logged={
    'global_batch_size': 65_536,
    'opt_name': 'adagrad',
    'opt_base_learning_rate': 0.004,
    'opt_adagrad_learning_rate_decay': 0,
    'opt_weight_decay': 0,
    'opt_adagrad_initial_accumulator_value': 0.0,
    'opt_adagrad_epsilon': 1e-8,
    'opt_learning_rate_warmup_steps': 0,
    'opt_learning_rate_decay_start_step': 0,
    'opt_learning_rate_decay_steps': 0,
    'gradient_accumulation_steps': 1,
  },
)


class DcnSpecTest(clicks_spec.ClicksSpecTest, absltest.TestCase):
  table = TABLE
  met = 3456  # 27 vectors of 128
  parameters = (
    ('bottom', 171_392), ('cross', 10_627_200), ('top', 5_245_953),
  )  # fmt: skip
  rows = 204_184_588
  # floor(4195197692 / (65536 * 20)), of 64,013 whole batches.
  evals = (3200, 0.049989846, 0.999796916)
  order = (False, False)
  products = 3 + 2 * 3 + 5
  narrow = types.MappingProxyType(
    {'lookups': (1,) * 26, 'cross_layers': 1, 'cross_rank': 80}
  )

  def test_rows_that_a_sample_names(self):
    self.assertEqual(sum(LOOKUPS), 214)
    # 204,184,588 rows of 128 numbers.
    self.assertEqual(self.rows * 128, 26_135_627_264)
    self.assertEmpty(self.task().tensors)

  def test_the_cross_network(self):
    cross = abstract_state(self.task()).params['whole']['cross']
    for layer in cross['down'].values():
      self.assertEqual({k: v.shape for k, v in layer.items()},
                       {'kernel': (3456, 512)})  # fmt: skip
    for layer in cross['up'].values():
      self.assertEqual({k: v.shape for k, v in layer.items()},
                       {'kernel': (512, 3456), 'bias': (3456,)})  # fmt: skip

  def test_the_start(self):
    task = self.task(**clicks_spec.NARROW, **self.narrow)
    params, _ = quick.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    whole = params['whole']
    layers = [*whole['bottom'].values(), *whole['top'].values()]
    for name in ('kernel', 'bias'):  # PyTorch's
      arrays = [
        layer[name] * layer['kernel'].shape[0] ** 0.5 for layer in layers
      ]
      self.assert_uniform(clicks_spec.joined(arrays))
    down, up = (whole['cross'][name][0] for name in ('down', 'up'))
    for layer in (down, up):  # Xavier's normal of PyTorch, which has no end
      self.assert_normal(layer['kernel'], (2 / (27 * 16 + 80)) ** 0.5)
      self.assertGreater(
        abs(layer['kernel']).max(), 3.5 * layer['kernel'].std()
      )
    self.assertEqual(float(abs(up['bias']).max()), 0)
    self.assert_tables_start_uniform(params)

  def test_adagrad(self):
    """Its updates where epsilon is half of what it divides by."""
    rows = self.task()._rows
    params, expected, total = {'w': jnp.zeros(2)}, 0.0, 0.0
    state = rows.init(params)
    for gradient in (2e-8, -1e-8, 0.0):
      params, state = rows.apply({'w': jnp.full(2, gradient)}, state, params)
      total += gradient**2
      expected -= 0.004 * gradient / (total**0.5 + 1e-8)
      np.testing.assert_allclose(params['w'], expected, rtol=1e-4)


if __name__ == '__main__':
  absltest.main()
