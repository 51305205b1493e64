r"""DLRM and DLRM-DCNv2 here and in PyTorch: seconds to an AUC, and for a step.

python studies/dlrm_pytorch.py --data_dir=data --target=0.8
python studies/dlrm_pytorch.py --data_dir=data --benchmark=dlrm_dcnv2

Both train on the same batches in the same order with the same rates and initial
distributions, on the same cores, in turns; batches of both come from our
pipeline. The PyTorch side of DLRM is written after the definition of the
reference (facebookresearch/dlrm, dlrm_s_pytorch.py): an EmbeddingBag for each
table with sparse gradients, which are made dense where the table has fewer than
256 million numbers and coalesced otherwise; SGD. That of DLRM-DCNv2 is put
together of PyTorch's own parts, as torchrec's need a GPU: bags with sparse
gradients, Linear, and Adagrad, which updates the rows of a batch. The AUC is
scikit-learn's.

--table_factor=10 trains with tables of so many times as many rows, of which the
clicks name as many as before: as the full size, whose tables are far larger
than a batch.

python studies/dlrm_pytorch.py --steps=20 --table_cap=200000

times single steps and evals instead, in turns, at the widths of the reference
and a batch of 2048, that of its script, with tables of at most so many rows.
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

_BENCHMARK = flags.DEFINE_enum(
  'benchmark', 'dlrm', ['dlrm', 'dlrm_dcnv2'], 'What to train.'
)
_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where the data set lies.')
_GOAL = flags.DEFINE_float('target', 0.8, 'AUC that ends a run.')
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each, in turns.')
_STEPS = flags.DEFINE_integer('steps', 0, 'Time so many steps, and no run.')
_CAP = flags.DEFINE_integer('table_cap', 200_000, 'Rows of a table, at most.')
_BATCH = flags.DEFINE_integer('batch', 2048, 'Samples of a step that is timed.')
_FACTOR = flags.DEFINE_integer(
  'table_factor', 1, 'Rows for each that is named.'
)
_DENSE_BELOW = flags.DEFINE_integer(
  'dense_below',
  256_000_000,
  'Numbers of a table from which on gradients of the PyTorch side of DLRM stay '
  'sparse; 0: all are.',
)
_CHANGES = flags.DEFINE_multi_string('hp', [], 'Changes, name=value.')


class Model(torch.nn.Module):
  """A bag for each table, two perceptrons, and how their vectors meet."""

  def __init__(self, hp, met: int):
    super().__init__()
    self.lookups = getattr(hp, 'lookups', (1,) * len(hp.tables))
    self.width = hp.bottom_layers[-1]
    self.bags = torch.nn.ModuleList(
      torch.nn.EmbeddingBag(rows, self.width, mode='sum', sparse=True)
      for rows in hp.tables
    )
    for bag in self.bags:
      limit = bag.num_embeddings**-0.5
      torch.nn.init.uniform_(bag.weight, -limit, limit)
    self.bottom = _perceptron((hp.counts, *hp.bottom_layers))
    self.top = _perceptron((met, *hp.top_layers))[:-1]

  def forward(self, counts: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[N, counts] and [N, lookups] -> logits [N]."""
    bottom = self.bottom(counts)
    each = ids.split(self.lookups, dim=1)
    found = [bag(i) for bag, i in zip(self.bags, each, strict=True)]
    return self.top(self.meet(torch.stack([bottom, *found], 1)))[:, 0]


class Dlrm(Model):
  """Dot products; SGD with dense gradients of all but the largest tables."""

  def __init__(self, hp):
    vectors = 1 + len(hp.tables)
    super().__init__(hp, hp.bottom_layers[-1] + vectors * (vectors - 1) // 2)
    for layer in [*self.bottom, *self.top]:
      if isinstance(layer, torch.nn.Linear):
        out, into = layer.weight.shape
        torch.nn.init.normal_(layer.weight, 0, (2 / (into + out)) ** 0.5)
        torch.nn.init.normal_(layer.bias, 0, out**-0.5)
    pairs = [(i, j) for i in range(vectors) for j in range(i)]
    self.pairs = torch.tensor(pairs).T
    self.optimizer = torch.optim.SGD(self.parameters(), lr=0.0)
    self._of_chances = torch.nn.BCELoss()

  def meet(self, vectors):
    """[N, vectors, width] -> what the top perceptron gets."""
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    dots = products[:, self.pairs[0], self.pairs[1]]
    return torch.cat([vectors[:, 0], dots], 1)

  def loss(self, logits, labels):
    """The reference's, of chances."""
    return self._of_chances(torch.sigmoid(logits), labels)

  def prepare(self):
    """Changes gradients before the optimizer gets them."""
    for parameter in self.parameters():
      if parameter.grad.is_sparse:
        small = parameter.numel() < _DENSE_BELOW.value
        gradient = parameter.grad
        parameter.grad = gradient.to_dense() if small else gradient.coalesce()


class Dcn(Model):
  """A cross network; Adagrad, of tables in the rows of a batch."""

  def __init__(self, hp):
    met = hp.bottom_layers[-1] * (1 + len(hp.tables))
    super().__init__(hp, met)
    linear, layers = torch.nn.Linear, range(hp.cross_layers)
    self.down = torch.nn.ModuleList(
      linear(met, hp.cross_rank, bias=False) for _ in layers
    )
    self.up = torch.nn.ModuleList(linear(hp.cross_rank, met) for _ in layers)
    for layer in [*self.down, *self.up]:
      torch.nn.init.xavier_normal_(layer.weight)
    for layer in self.up:
      torch.nn.init.zeros_(layer.bias)
    self.optimizer = torch.optim.Adagrad(
      self.parameters(), lr=0.0, eps=hp.epsilon
    )
    self.loss = torch.nn.BCEWithLogitsLoss()

  def meet(self, vectors):
    """[N, vectors, width] -> what the top perceptron gets."""
    first = x = vectors.flatten(1)
    for down, up in zip(self.down, self.up, strict=True):
      x = first * up(down(x)) + x
    return x

  def prepare(self):
    """Leaves gradients as they are."""


_MODELS = {'dlrm': Dlrm, 'dlrm_dcnv2': Dcn}


def _perceptron(widths) -> torch.nn.Sequential:
  layers = []
  for into, out in itertools.pairwise(widths):
    layers += [torch.nn.Linear(into, out), torch.nn.ReLU()]
  return torch.nn.Sequential(*layers)


class Trainer:
  """The PyTorch side: a model, its optimizer, a step and an eval."""

  def __init__(self, hp, rates, seed: int):
    torch.manual_seed(seed)
    self.model = _MODELS[_BENCHMARK.value](hp)
    self._rates = iter(rates)

  def step(self, batch) -> torch.Tensor:
    """One step; the loss."""
    optimizer = self.model.optimizer
    (group,) = optimizer.param_groups
    group['lr'] = next(self._rates)
    optimizer.zero_grad(set_to_none=True)
    loss = self.model.loss(
      self._logits(batch), torch.from_numpy(batch['label'])
    )
    loss.backward()
    self.model.prepare()
    optimizer.step()
    return loss

  def auc(self, batches) -> float:
    """The area for all batches, without padding."""
    scores, labels = [], []
    for batch in batches:
      real = batch['weight'] > 0
      scores.append(self.scores(batch)[real])
      labels.append(batch['label'][real])
    return metrics.roc_auc_score(np.concatenate(labels), np.concatenate(scores))

  @torch.no_grad()
  def scores(self, batch) -> np.ndarray:
    """Logits [N]."""
    return self._logits(batch).numpy()

  def _logits(self, batch):
    ids = torch.from_numpy(batch['ids']).long()
    return self.model(torch.from_numpy(batch['dense']), ids)


@dataclasses.dataclass(frozen=True)
class Run:
  """Cost of a run until the target, and the AUC that met it."""

  seconds: float
  core_seconds: float  # of all threads, whoever else is on the cores
  steps: int
  quality: float


def theirs(task, hp, directory: str, seed: int, target: float) -> Run:
  """Trains the PyTorch side from opening the data to the target."""
  blocks = task.blocks(Facts())
  steps = sum(block.steps for block in blocks)
  rates = np.asarray(jax.vmap(task.rate)(np.arange(steps)), float).tolist()
  trainer = Trainer(hp, rates, seed)
  start, worked, done = time.perf_counter(), time.process_time(), 0
  clicks = criteo.load(directory)
  batches = criteo.train_batches(
    clicks, batch_size=hp.global_batch_size, seed=seed, shuffle=task.shuffles,
    drop_last=not task.keeps_rest,
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


def ours(task, hp, directory: str, seed: int, target: float) -> Run:
  """The benchmark's own loop, from run_start to run_stop."""
  del hp
  one = timed_run.to_target(
    task, Target(at_least={'AUC': target}), directory, seed
  )
  last = one.last
  return Run(one.seconds, one.core_seconds, last.step, last.quality['AUC'])


def compare_runs(size, hp, directory: str) -> None:
  """Prints every run as it ends, and the ratios of the medians."""
  benchmark_lib.get(_BENCHMARK.value).task(hp, size.data).inspect(directory)
  hp = dataclasses.replace(
    hp, tables=tuple(_FACTOR.value * rows for rows in hp.tables)
  )
  found: dict[str, list[Run]] = {}
  for seed in range(_RUNS.value):
    for name, run in (('PyTorch', theirs), ('here', ours)):
      task = benchmark_lib.get(_BENCHMARK.value).task(hp, size.data)
      task.inspect = lambda _: Facts()  # its tables may be larger
      one = run(task, hp, directory, seed, _GOAL.value)
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
  """Prints the median seconds of a step and of an eval of random clicks."""
  hp = dataclasses.replace(
    hp,
    global_batch_size=_BATCH.value,
    tables=tuple(min(rows, _CAP.value) for rows in hp.tables),
  )
  draws, rows = np.random.default_rng(0), hp.global_batch_size
  lookups = getattr(hp, 'lookups', (1,) * len(hp.tables))
  batch = {
    'dense': draws.exponential(size=(rows, hp.counts)).astype(np.float32),
    'ids': np.concatenate(
      [
        np.minimum(draws.zipf(1.2, (rows, hot)) - 1, n - 1)
        for n, hot in zip(hp.tables, lookups, strict=True)
      ],
      axis=1,
    ).astype(np.int32),
    'label': (draws.random(rows) < 0.03).astype(np.float32),
    'weight': np.ones(rows, np.float32),
  }
  trainer = Trainer(hp, itertools.repeat(0.004), 0)
  task = benchmark_lib.get(_BENCHMARK.value).task(hp, size.data)
  state = jax.jit(lambda s: task.init(jax.random.key(s, impl='rbg')))(0)
  step, predict = (
    jax.jit(task.train_step, donate_argnums=0),
    jax.jit(task.predict),
  )
  held = [state]

  def train():
    held[0], metrics_ = step(held[0], batch)
    jax.block_until_ready((held[0], metrics_))

  for what, theirs_, ours_ in (
    ('a step', lambda: trainer.step(batch).item(), train),
    (
      'an eval',
      lambda: trainer.scores(batch),
      lambda: jax.device_get(predict(held[0], batch)['score']),
    ),
  ):
    calls = {'PyTorch': theirs_, 'here': ours_}
    found = {name: [] for name in calls}
    for turn in range(1 + _STEPS.value):
      for name, call in calls.items():
        start, worked = time.perf_counter(), time.process_time()
        call()
        took = time.perf_counter() - start, time.process_time() - worked
        found[name] += [took] * (turn > 0)  # the first compiles
    for name, each in found.items():
      wall, cores = (
        1e3 * statistics.median(x) for x in zip(*each, strict=True)
      )
      print(
        f'{name}: {wall:.1f} ms {what}, {cores:.1f} ms of a core', flush=True
      )


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  changes = dict(text.split('=', 1) for text in _CHANGES.value)
  size = benchmark_lib.get(_BENCHMARK.value).size(
    'reference' if _STEPS.value else 'tiny'
  )
  hp = hparams.override(size.hparams, changes, hparams.Division.OPEN)
  if _STEPS.value:
    compare_steps(size, hp)
  else:
    compare_runs(size, hp, dataset.find(_DATA_DIR.value, size.data.name))


if __name__ == '__main__':
  app.run(main)
