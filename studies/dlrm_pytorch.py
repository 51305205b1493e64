r"""DLRM here and in PyTorch: seconds to the same AUC, and for a step.

python studies/dlrm_pytorch.py --data_dir=data --target=0.8

Both train on the same batches in the same order with the same rates and initial
distributions, on the same cores, in turns; batches of both come from our
pipeline. The PyTorch side is written after the definition of the reference
(facebookresearch/dlrm, dlrm_s_pytorch.py): an EmbeddingBag for each table with
sparse gradients, which are made dense where the table has fewer than 256
million numbers and coalesced otherwise; SGD; scikit-learn's AUC.

python studies/dlrm_pytorch.py --steps=20 --table_cap=200000

times single steps instead, at the widths of the reference and a batch of 2048,
that of its script, with tables of at most so many rows.
"""

import dataclasses
import itertools
import os
import statistics
import sys
import time

from absl import app, flags, logging

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import numpy as np
from sklearn import metrics
import torch

from input_pipelines.criteo import read as criteo
from input_pipelines.reading import dataset
from studies import timed_run
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.run.task import Facts
from suite.target import Target

_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where the data set lies.')
_GOAL = flags.DEFINE_float('target', 0.8, 'AUC that ends a run.')
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each, in turns.')
_STEPS = flags.DEFINE_integer('steps', 0, 'Time so many steps, and no run.')
_CAP = flags.DEFINE_integer('table_cap', 200_000, 'Rows of a table, at most.')
_BATCH = flags.DEFINE_integer('batch', 2048, 'Samples of a step that is timed.')
_CHANGES = flags.DEFINE_multi_string('hp', [], 'Changes, name=value.')

_DENSE_BELOW = 256_000_000  # numbers of a table


class Model(torch.nn.Module):
  """DLRM: a bag for each table, two perceptrons, dot products."""

  def __init__(self, hp, draws: np.random.Generator):
    super().__init__()
    width, vectors = hp.bottom_layers[-1], 1 + len(hp.tables)
    self.bags = torch.nn.ModuleList(
      torch.nn.EmbeddingBag(rows, width, mode='sum', sparse=True)
      for rows in hp.tables
    )
    for bag in self.bags:
      limit = bag.num_embeddings**-0.5
      torch.nn.init.uniform_(bag.weight, -limit, limit)
    met = width + vectors * (vectors - 1) // 2
    self.bottom = self._perceptron((hp.counts, *hp.bottom_layers), draws)
    self.top = self._perceptron((met, *hp.top_layers), draws)[:-1]
    pairs = [(i, j) for i in range(vectors) for j in range(i)]
    self.pairs = torch.tensor(pairs).T

  def _perceptron(self, widths, draws):
    layers = []
    for into, out in itertools.pairwise(widths):
      layer = torch.nn.Linear(into, out)
      for parameter, deviation in (
        (layer.weight, (2 / (into + out)) ** 0.5),
        (layer.bias, out**-0.5),
      ):
        drawn = draws.normal(0, deviation, parameter.shape)
        parameter.data = torch.from_numpy(drawn.astype(np.float32))
      layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)

  def forward(self, counts: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[N, counts] and [tables, N] -> chances [N]."""
    bottom = self.bottom(counts)
    offsets = torch.arange(len(counts))
    found = [bag(i, offsets) for bag, i in zip(self.bags, ids, strict=True)]
    vectors = torch.stack([bottom, *found], 1)
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    dots = products[:, self.pairs[0], self.pairs[1]]
    return torch.sigmoid(self.top(torch.cat([bottom, dots], 1)))[:, 0]


class Trainer:
  """The PyTorch side: a model, its optimizer, a step and an eval."""

  def __init__(self, hp, rate, seed: int):
    torch.manual_seed(seed)
    self.model = Model(hp, np.random.default_rng(seed))
    self._rate, self._done = rate, 0
    self._loss = torch.nn.BCELoss()
    self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)

  def step(self, batch) -> torch.Tensor:
    """One step; the loss."""
    (group,) = self._optimizer.param_groups
    group['lr'] = self._rate[self._done]
    self._done += 1
    self._optimizer.zero_grad(set_to_none=True)
    chances = self._chances(batch)
    loss = self._loss(chances, torch.from_numpy(batch['label']))
    loss.backward()
    for parameter in self.model.parameters():
      if parameter.grad.is_sparse:
        small = parameter.numel() < _DENSE_BELOW
        gradient = parameter.grad
        parameter.grad = gradient.to_dense() if small else gradient.coalesce()
    self._optimizer.step()
    return loss

  @torch.no_grad()
  def auc(self, batches) -> float:
    """Of all batches, without padding."""
    scores, labels = [], []
    for batch in batches:
      real = batch['weight'] > 0
      scores.append(self._chances(batch).numpy()[real])
      labels.append(batch['label'][real])
    return metrics.roc_auc_score(np.concatenate(labels), np.concatenate(scores))

  def _chances(self, batch):
    ids = torch.from_numpy(np.ascontiguousarray(batch['ids'].T)).long()
    return self.model(torch.from_numpy(batch['dense']), ids)


@dataclasses.dataclass(frozen=True)
class Run:
  """Cost of a run until the target, and the AUC that met it."""

  seconds: float
  core_seconds: float  # of all threads, whoever else is on the cores
  steps: int
  quality: float


def theirs(size, hp, directory: str, seed: int, target: float) -> Run:
  """Trains the PyTorch side from opening the data to the target."""
  task = benchmark_lib.get('dlrm').task(hp, size.data)
  blocks = task.blocks(Facts())
  steps = sum(block.steps for block in blocks)
  rates = np.asarray(jax.vmap(task.rate)(np.arange(steps)), float).tolist()
  trainer = Trainer(hp, rates, seed)
  start, worked, done = time.perf_counter(), time.process_time(), 0
  clicks = criteo.load(directory)
  batches = criteo.train_batches(
    clicks, batch_size=hp.global_batch_size, seed=seed, shuffle=True,
    drop_last=False,
  )  # fmt: skip
  for block in blocks:
    for _ in range(block.steps):
      trainer.step(next(batches))
    done += block.steps
    quality = trainer.auc(
      criteo.eval_batches(clicks, batch_size=hp.eval_batch_size)
    )
    if quality >= target:
      took = time.perf_counter() - start, time.process_time() - worked
      return Run(*took, done, quality)
  raise RuntimeError(f'PyTorch did not reach {target}; last {quality:.4f}.')


def ours(size, hp, directory: str, seed: int, target: float) -> Run:
  """The benchmark's own loop, from run_start to run_stop."""
  task = benchmark_lib.get('dlrm').task(hp, size.data)
  one = timed_run.to_target(
    task, Target(at_least={'AUC': target}), directory, seed
  )
  last = one.last
  return Run(one.seconds, one.core_seconds, last.step, last.quality['AUC'])


def compare_runs(size, hp, directory: str) -> None:
  """Prints every run as it ends, and the ratios of the medians."""
  found: dict[str, list[Run]] = {}
  for seed in range(_RUNS.value):
    for name, run in (('PyTorch', theirs), ('here', ours)):
      one = run(size, hp, directory, seed, _GOAL.value)
      found.setdefault(name, []).append(one)
      print(
        f'{name}, seed {seed}: {one.seconds:.1f} s, '
        f'{one.core_seconds:.1f} s of a core, {one.steps} steps, '
        f'AUC {one.quality:.4f}',
        flush=True,
      )
  for what in ('seconds', 'core_seconds'):
    theirs_, ours_ = (
      statistics.median(getattr(run, what) for run in found[name])
      for name in ('PyTorch', 'here')
    )
    print(f'{what}: {theirs_ / ours_:.2f} times as fast')


def compare_steps(size, hp) -> None:
  """Prints the median seconds of a step, on batches of random clicks."""
  hp = dataclasses.replace(
    hp,
    global_batch_size=_BATCH.value,
    tables=tuple(min(rows, _CAP.value) for rows in hp.tables),
  )
  draws, rows = np.random.default_rng(0), hp.global_batch_size
  batch = {
    'dense': draws.exponential(size=(rows, hp.counts)).astype(np.float32),
    'ids': np.stack(
      [np.minimum(draws.zipf(1.2, rows) - 1, n - 1) for n in hp.tables], 1
    ).astype(np.int32),
    'label': (draws.random(rows) < 0.03).astype(np.float32),
    'weight': np.ones(rows, np.float32),
  }
  trainer = Trainer(hp, [1.0] * 1000, 0)
  task = benchmark_lib.get('dlrm').task(hp, size.data)
  state = jax.jit(lambda s: task.init(jax.random.key(s, impl='rbg')))(0)
  step = jax.jit(task.train_step, donate_argnums=0)
  held = [state]

  def once():
    held[0], _ = step(held[0], batch)
    jax.block_until_ready(held[0])

  for name, call in (
    ('PyTorch', lambda: trainer.step(batch).item()),
    ('here', once),
  ):
    call()
    seconds, busy = [], []
    for _ in range(_STEPS.value):
      start, worked = time.perf_counter(), time.process_time()
      call()
      seconds.append(time.perf_counter() - start)
      busy.append(time.process_time() - worked)
    wall, cores = (1e3 * statistics.median(each) for each in (seconds, busy))
    print(f'{name}: {wall:.1f} ms a step, {cores:.1f} ms of a core', flush=True)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  changes = dict(text.split('=', 1) for text in _CHANGES.value)
  size = benchmark_lib.get('dlrm').size('reference' if _STEPS.value else 'tiny')
  hp = hparams.override(size.hparams, changes, hparams.Division.OPEN)
  if _STEPS.value:
    compare_steps(size, hp)
  else:
    compare_runs(size, hp, dataset.find(_DATA_DIR.value, size.data.name))


if __name__ == '__main__':
  app.run(main)
