"""Tests of NCF's steps in parts and spread over devices, on 8 CPU devices."""

import dataclasses
import re

from absl.testing import absltest
import jax
import numpy as np

from suite import benchmark
from suite.benchmarks import ncf
from suite.benchmarks.ncf.task import make_task
from suite.run import program, sharding
from tests import quick

ROWS = 512
USERS, ITEMS = 4096, 2048  # tables large enough to be spread
DATA = benchmark.DataSet('pairs', train_samples=500, eval_samples=USERS)
SMALL = dataclasses.replace(
  ncf.BENCHMARK.sizes['tiny'].hparams,
  users=USERS,
  items=ITEMS,
  mf_width=4,
  mlp_layers=(8, 8, 4),
  global_batch_size=ROWS,
  eval_batch_size=32,
  eval_negatives=30,
)


def _batch(seed):
  draws = np.random.default_rng(seed)
  return {
    'user': draws.integers(0, USERS, ROWS).astype(np.int32),
    'item': draws.integers(0, ITEMS, ROWS).astype(np.int32),
    'label': (draws.random(ROWS) < 0.2).astype(np.float32),
    'weight': (np.arange(ROWS) < ROWS - 37).astype(np.float32),
  }


def _lowered(kind, mesh, *, spread='none', parts=1):
  hp = dataclasses.replace(
    SMALL, opt_name=kind, gradient_accumulation_steps=parts
  )
  task, build = make_task(hp, DATA), program.Build(spread=spread)
  program.check(task, mesh, build)
  return program.lower(task, mesh, build)


def _trained(kind, *, model=1, **how):
  """Losses of three steps, and the last state, on the host and as shards."""
  mesh = sharding.make_mesh(model)
  lowered = _lowered(kind, mesh, **how)
  step = lowered['train_step'][0].compile(quick.OPTIONS)
  state, losses = lowered['init'].compile(quick.OPTIONS)(np.uint32(3)), []
  for seed in range(3):
    state, metrics = step(state, sharding.put_rows(_batch(seed), mesh))
    losses.append(float(metrics['loss']))
  shards = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, state)
  state = jax.device_get(dataclasses.replace(state, key=np.float32(0)))
  return losses, state, shards


class LayoutTest(absltest.TestCase):
  """Spread over the data axis, and in parts; the last batches are padded."""

  def test_dense_adam_gives_the_same_with_tables_split_both_ways(self):
    losses, state, _ = _trained('adam')
    how = {'spread': 'parameters', 'parts': 4, 'model': 2}
    found, other, shards = _trained('adam', **how)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (state, other)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    # 4096 rows of 8 by 2 devices; the 8 columns by the 4 of the data axis.
    self.assertEqual(shards.params['tables']['user'], (2048, 2))
    self.assertEqual(shards.opt[0].mu['tables']['user'], (2048, 2))

  def test_a_lazy_step_fetches_rows_and_never_a_table(self):
    table = USERS * 8
    for model, how in (
      (1, {}),
      (1, {'spread': 'optimizer'}),
      (2, {'spread': 'parameters', 'parts': 4}),
    ):
      lowered = _lowered('lazy_adam', sharding.make_mesh(model), **how)
      text = lowered['train_step'][0].compile(quick.OPTIONS).as_text()
      sent = re.findall(
        r'= (.*) (?:all-gather|all-reduce|all-to-all|collective-permute)\(',
        text,
      )
      sizes = [
        np.prod([int(n) for n in shape.split(',') if n])
        for shape in re.findall(r'f32\[([\d,]*)\]', ' '.join(sent))
      ]
      self.assertLess(max(sizes), table // 2, how)


if __name__ == '__main__':
  absltest.main()
