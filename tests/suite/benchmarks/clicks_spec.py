"""Facts that DLRM and DLRM-DCNv2 share, for the tests of their specifications.

From Criteo's terabyte, of which both take the same days, and from the layers
that both references have: facebookresearch/dlrm, bench/run_and_time.sh, and
mlcommons/training, recommendation_v2/torchrec_dlrm/README.MD.
"""

from collections.abc import Mapping
import itertools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suite import benchmark
from suite.run.program import abstract_state
from suite.run.task import Facts, State
from tests.suite.benchmarks import spec_table

SAMPLES = (4_195_197_692, 89_137_319)  # to train on, and of evals
FIXED = {
  'epochs_between_evals': 0.05,
  'counts': 13,
  'bottom_layers': (512, 256, 128),
  'top_layers': (1024, 1024, 512, 256, 1),
}
OF_THE_SYSTEM = (
  'gradient_accumulation_steps',
  'compute_dtype',
  'whole_table_rows',
  'eval_batch_size',
)
F32 = np.dtype(np.float32)
# A few rows and narrow layers, for tests of what does not depend on them.
NARROW = {
  'tables': (60,) * 25 + (3000,),
  'bottom_layers': (150, 16),
  'top_layers': (200, 1),
}


def joined(arrays) -> np.ndarray:
  """All numbers of some arrays, [N]."""
  return np.concatenate([np.ravel(array) for array in arrays])


class ClicksSpecTest(spec_table.SpecTest):
  """Mixed into a test case with a `table`, and with what follows."""

  met: int  # numbers that enter the last perceptron
  parameters: tuple  # of each part: name, numbers
  rows: int  # of all tables
  # Steps from one eval to the next, and the first and the last `epoch_num`.
  evals: tuple[int, float, float]
  order: tuple[bool, bool]  # shuffled, the short last batch kept
  products: int  # of matrices, for a score
  narrow: Mapping[str, Any] = types.MappingProxyType({})  # beside `NARROW`

  def test_the_tables(self):
    tables, fixed = self.task()._tables, self.table.fixed
    sizes = fixed['tables']
    self.assertEqual((len(sizes), sum(sizes)), (26, self.rows))
    self.assertEqual((tables.sizes, tables.width), (sizes, 128))
    self.assertEqual(tables.lookups, fixed.get('lookups', (1,) * 26))
    self.assertEqual(tables.large + tables.small, self.rows)

  def test_the_layers(self):
    params = abstract_state(self.task()).params['whole']
    self.assertEqual({*params}, {*dict(self.parameters), 'small'})
    for name, parameters in self.parameters:
      leaves = jax.tree.leaves(params[name])
      self.assertEqual(sum(leaf.size for leaf in leaves), parameters, name)
    for name, widths in (
      ('bottom', (13, 512, 256, 128)),
      ('top', (self.met, 1024, 1024, 512, 256, 1)),
    ):
      kernels = [layer['kernel'].shape for layer in params[name].values()]
      self.assertEqual(kernels, [*itertools.pairwise(widths)])

  def test_evals_come_twenty_times(self):
    steps, first, last = self.evals
    blocks = self.task().blocks(Facts())
    self.assertLen(blocks, 20)
    self.assertEqual({b.steps for b in blocks}, {steps})
    self.assertEqual(blocks[0].at, {'epoch_num': first})
    self.assertEqual(blocks[-1].at, {'epoch_num': last})
    self.assertEqual(blocks[0].start['first_epoch_num'], int(first))
    declared = benchmark.get(self.table.name)
    self.assertEqual(declared.starts_after(self.size().hparams), int(first))

  def test_the_order_of_batches_and_the_short_one(self):
    task = self.task()
    self.assertEqual((task.shuffles, task.keeps_rest), self.order)

  def assert_normal(self, numbers, deviation=1.0):
    """Fails for numbers that are uniform, or normal up to two deviations."""
    numbers = np.asarray(numbers) / deviation
    self.assertAlmostEqual(numbers.mean(), 0, delta=4 * numbers.size**-0.5)
    self.assertAlmostEqual(numbers.std(), 1, delta=3 * numbers.size**-0.5)
    self.assertBetween(abs(numbers).max(), 2.5, 5.5)

  def assert_uniform(self, numbers, limit=1.0):
    """Fails for numbers that are normal, or uniform up to another limit."""
    numbers = np.asarray(numbers) / limit
    self.assertBetween(abs(numbers).max(), 1 - 10 / numbers.size, 1)
    self.assertAlmostEqual(numbers.mean(), 0, delta=4 * numbers.size**-0.5)
    self.assertAlmostEqual(numbers.std(), 3**-0.5, delta=3 * numbers.size**-0.5)

  def assert_tables_start_uniform(self, params):
    """Checks `NARROW` tables: one of 3,000 rows, the others of 60."""
    small = params['whole']['small']
    self.assertEqual(small.shape, (25 * 60, 16))
    self.assert_uniform(small, 60**-0.5)
    task = self.task(**NARROW, **self.narrow)
    large = task._tables.table(25, params['store'], small)
    self.assertEqual(large.shape, (3000, 16))
    self.assert_uniform(large, 3000**-0.5)

  def test_products_and_parameters_have_their_formats(self):
    for name in ('float32', 'bfloat16'):
      task = self.task(compute_dtype=name)
      state = abstract_state(task)
      formats = {p.dtype for p in jax.tree.leaves(state.params)}
      self.assertEqual(formats, {F32})
      made = jax.make_jaxpr(task.predict)(state, dict(task.eval_specs[0]))
      products = [
        {each.aval.dtype for each in equation.invars}
        for equation in spec_table.equations(made.jaxpr)
        if equation.primitive.name == 'dot_general'
      ]
      self.assertLen(products, self.products)
      self.assertEqual(products, [{jnp.dtype(name)}] * (len(products) - 1)
                       + [{F32}])  # fmt: skip

  def test_scores_are_float32_logits_with_labels_and_weights(self):
    task = self.task(eval_batch_size=8)
    params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
    state = State(None, None, params, stats, {})
    found = jax.eval_shape(task.predict, state, dict(task.eval_specs[0]))
    self.assertEqual({*found}, {'score', 'label', 'weight'})
    self.assertEqual(found['score'].dtype, np.float32)
