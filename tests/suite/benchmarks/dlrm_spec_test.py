"""Numbers that the specification of DLRM fixes, each stated once.

From facebookresearch/dlrm at 6d75c84d (dlrm_s_pytorch.py, data_utils.py,
bench/run_and_time.sh), the rules of rounds v0.7 to v2.1 and published logs of
those rounds. Rates of the schedule are those of LRPolicyScheduler in
dlrm_s_pytorch.py, run by torch 2.13.
"""

from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from suite.benchmarks.dlrm import task as task_lib
from tests import quick
from tests.suite.benchmarks import clicks_spec, spec_table

TABLES = (
  39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546,
  403346, 10, 2208, 11938, 155, 4, 976, 14, 39979771, 25641295, 39664984,
  585935, 12972, 108, 36,
)  # fmt: skip
TABLE = spec_table.Table(
  name='dlrm',
  runs=5,
  dropped=1,
  sizes={
    'reference': (
      '2.1.0',
      {'AUC': {'at_least': 0.8025}},
      ('criteo_1tb', *clicks_spec.SAMPLES),
      30,
    ),
  },
  fixed={**clicks_spec.FIXED, 'decay_power': 2, 'tables': TABLES},
  # Those of the reference point for this batch.
  tunable={
    'global_batch_size': 55_296,
    'base_learning_rate': 24.0,
    'sgd_base_learning_rate': 24.0,
    'warmup_steps': 2750,
    'decay_start_steps': 49_315,
    'decay_steps': 27_772,
  },
  of_the_system=clicks_spec.OF_THE_SYSTEM,
  allowed=(
    {
      'global_batch_size': '32768',
      'base_learning_rate': '18',
      'sgd_base_learning_rate': '18',
      'warmup_steps': '8000',
      'decay_start_steps': '70000',
      'decay_steps': '30000',
    },
    {
      'global_batch_size': '71680',
      'base_learning_rate': '26',
      'sgd_base_learning_rate': '26',
      'warmup_steps': '2500',
      'decay_start_steps': '46821',
      'decay_steps': '15406',
    },
    {'warmup_steps': '0', 'decay_start_steps': '0', 'decay_steps': '0'},
  ),
  refused=(
    {'decay_power': '1'},
    {'base_learning_rate': '18'},  # the log names it twice
    {'decay_start_steps': '2749'},  # before the warmup ends
    {'epochs_between_evals': '0.1'},
    {'bottom_layers': '512,128'},
    {'base_learning_rate': '0', 'sgd_base_learning_rate': '0'},
  ),
  logged={
    'global_batch_size': 55_296,
    'opt_base_learning_rate': 24.0,
    'sgd_opt_base_learning_rate': 24.0,
    'opt_learning_rate_warmup_steps': 2750,
    'lr_decay_start_steps': 49_315,
    'sgd_opt_learning_rate_decay_steps': 27_772,
    'sgd_opt_learning_rate_decay_poly_power': 2,
    'gradient_accumulation_steps': 1,
  },
)


class DlrmSpecTest(clicks_spec.ClicksSpecTest, parameterized.TestCase):
  table = TABLE
  met = 479  # 128 numbers and 27 * 26 / 2 dot products
  parameters = (('bottom', 171_392), ('top', 2_197_505))
  rows = 187_767_399
  evals = (3793, 1.049994069, 1.999881374)  # of 75,868 steps
  order = (True, True)
  products = 3 + 1 + 5  # the dot products are one

  def test_the_start(self):
    task = self.task(**clicks_spec.NARROW)
    params, _ = quick.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    whole = params['whole']
    kernels, biases = [], []
    for layer in [*whole['bottom'].values(), *whole['top'].values()]:
      into, out = layer['kernel'].shape
      kernels.append(layer['kernel'] * ((into + out) / 2) ** 0.5)
      biases.append(layer['bias'] * out**0.5)
    for kernel in kernels:
      self.assert_normal(kernel)
    self.assert_normal(clicks_spec.joined(biases))
    self.assert_tables_start_uniform(params)

  def test_the_loss_is_the_mean_cross_entropy_of_a_sigmoid(self):
    task = self.task()
    layers = mock.Mock()
    layers.apply.return_value = (jnp.float32([2.0, -1.0, 0.5, 9.0]), {})
    batch = {
      'dense': None, 'ids': None,
      'label': jnp.float32([1, 0, 0, 1]), 'weight': jnp.float32([1, 1, 1, 0]),
    }  # fmt: skip
    with mock.patch.object(task, '_layers', layers):
      loss = task._loss({}, None, {}, batch)
    expected = np.log1p(np.exp([-2.0, -1.0, 0.5])).mean()
    self.assertAlmostEqual(float(loss), expected, places=6)

  def test_rates_are_those_of_the_reference(self):
    rate = self.task().rate
    for step, expected in {
      1: 0.0087272727, 1000: 8.7272727, 2749: 23.991273, 2750: 23.991273,
      30_000: 23.991273, 49_314: 23.991273, 49_315: 24.0, 60_000: 9.0850761,
      70_000: 1.5628662, 75_868: 0.046238564, 77_085: 1.2446777e-07,
      77_086: 1e-7, 77_087: 1e-7, 77_099: 1e-7,
    }.items():  # fmt: skip
      np.testing.assert_allclose(rate(step - 1), expected, rtol=1e-5)

  @parameterized.parameters(
    ((4, 8, 5), [0.5, 1, 1.5, 1.5, 1.5, 1.5, 1.5, 2, 1.28, 0.72, 0.32, 0.08,
                 0.08, 0.08]),
    ((0, 0, 0), [2, 2, 2, 2, 2]),
    ((3, 3, 4), [2 / 3, 4 / 3, 2, 1.125, 0.5, 0.125, 0.125, 0.125]),
    ((4, 10, 0), [0.5, 1, 1.5, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
  )  # fmt: skip
  def test_rates_of_short_schedules_are_those_of_the_reference(
    self, steps, rates
  ):
    names = ('warmup_steps', 'decay_start', 'decay_steps')
    schedule = task_lib.warmup_hold_decay(
      base=2.0, **dict(zip(names, steps, strict=True))
    )
    found = [float(schedule(s)) for s in range(len(rates))]
    np.testing.assert_allclose(found, rates, rtol=1e-6)

  def test_the_optimizer_is_sgd_without_momentum(self):
    rows = self.task(warmup_steps=0, decay_steps=0)._rows
    params = {'w': jnp.zeros(2)}
    state = rows.init(params)
    for gradient, expected in ((1.0, -24), (0.5, -36), (0.0, -36)):
      params, state = rows.apply({'w': jnp.full(2, gradient)}, state, params)
      np.testing.assert_allclose(params['w'], expected)

  def test_the_tensors_that_the_log_names(self):
    self.assertEqual(
      sorted(self.task().tensors),
      ['bottom_mlp_dense1', 'bottom_mlp_dense2', 'bottom_mlp_dense3',
       'embeddings', 'top_mlp_dense1', 'top_mlp_dense2', 'top_mlp_dense3',
       'top_mlp_dense4', 'top_mlp_dense5'],
    )  # fmt: skip


if __name__ == '__main__':
  absltest.main()
