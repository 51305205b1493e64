r"""NeuMF here and in PyTorch: seconds to the same hit rate, and for a step.

python studies/ncf_pytorch.py --data_dir=data --target=0.4 --runs=3

Both train on the same data with the same batch, rate, betas and initial
distributions, on the same cores, in turns, and both clocks start before the
data is read. The PyTorch side is written after the definition of the reference:
four tables, dense Adam, an epoch's samples made and shuffled by tensor
operations, scores of all candidates, repeats put last, the ten best. Ours is
the benchmark as it is, with dense Adam and with lazy Adam; the reference has
dense Adam alone.

python studies/ncf_pytorch.py --steps=20

times single steps instead, at the sizes of ml-20m, on batches that are there.
"""

import dataclasses
import os
import statistics
import sys
import time

from absl import app, flags, logging

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import numpy as np
import torch

from input_pipelines.movielens import read as movielens
from input_pipelines.reading import dataset
from studies import timed_run
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.benchmarks import ncf
from suite.benchmarks.ncf.task import EVAL_SEED, make_task
from suite.target import Target

_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where the data set lies.')
_GOAL = flags.DEFINE_float('target', 0.4, 'Hit rate that ends a run.')
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each, in turns.')
_STEPS = flags.DEFINE_integer('steps', 0, 'Time so many steps, and no run.')
_CHANGES = flags.DEFINE_multi_string('hp', [], 'Changes, name=value.')


class Model(torch.nn.Module):
  """NeuMF with a table for each of its four embeddings."""

  def __init__(self, hp: ncf.Hparams):
    super().__init__()
    half, *widths = hp.mlp_layers[0] // 2, *hp.mlp_layers[1:]
    self.product = torch.nn.ModuleList(
      torch.nn.Embedding(n, hp.mf_width) for n in (hp.users, hp.items)
    )
    self.inputs = torch.nn.ModuleList(
      torch.nn.Embedding(n, half) for n in (hp.users, hp.items)
    )
    sizes = zip(hp.mlp_layers, widths, strict=False)
    self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in sizes)
    self.last = torch.nn.Linear(widths[-1] + hp.mf_width, 1)
    for table in (*self.product, *self.inputs):
      torch.nn.init.normal_(table.weight, std=0.01)
    for layer in self.layers:
      torch.nn.init.xavier_uniform_(layer.weight)
    limit = (3 / self.last.in_features) ** 0.5
    torch.nn.init.uniform_(self.last.weight, -limit, limit)

  def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """int64 [N] and [N] -> logits [N]."""
    product = self.product[0](users) * self.product[1](items)
    hidden = torch.cat([self.inputs[0](users), self.inputs[1](items)], 1)
    for layer in self.layers:
      hidden = torch.relu(layer(hidden))
    return self.last(torch.cat([product, hidden], 1))[:, 0]


class Trainer:
  """The PyTorch side: a model, its optimizer, a step and an eval."""

  def __init__(self, hp: ncf.Hparams, seed: int):
    torch.manual_seed(seed)
    self._hp = hp
    self._draws = np.random.default_rng(seed)
    self.model = Model(hp)
    self._loss = torch.nn.BCEWithLogitsLoss()
    self._optimizer = torch.optim.Adam(
      self.model.parameters(),
      lr=hp.base_learning_rate,
      betas=(hp.beta_1, hp.beta_2),
      eps=hp.epsilon,
    )

  def step(self, users, items, labels) -> torch.Tensor:
    """One step of dense Adam; the loss."""
    self._optimizer.zero_grad(set_to_none=True)
    loss = self._loss(self.model(users, items), labels)
    loss.backward()
    self._optimizer.step()
    return loss

  def epoch(self, pairs: movielens.Interactions) -> None:
    """Trains on every pair and negatives of its user, in random order."""
    positive = torch.from_numpy(pairs.user).long()
    users = positive.repeat(1 + self._hp.negatives)
    items = torch.cat(
      [torch.from_numpy(pairs.item).long(), self._negatives(pairs)]
    )
    labels = torch.zeros(len(users))
    labels[: len(positive)] = 1
    order = torch.randperm(len(users))
    batches = (
      each[order].split(self._hp.global_batch_size)
      for each in (users, items, labels)
    )
    for batch in zip(*batches, strict=True):
      self.step(*batch)

  def _negatives(self, pairs: movielens.Interactions) -> torch.Tensor:
    user = np.tile(pairs.user, self._hp.negatives)
    item = self._draws.integers(0, pairs.items, len(user))
    again = np.arange(len(user))
    while len(again):
      keys = movielens.key(user[again], item[again])
      place = np.searchsorted(pairs.keys, keys).clip(max=len(pairs) - 1)
      again = again[pairs.keys[place] == keys]
      item[again] = self._draws.integers(0, pairs.items, len(again))
    return torch.from_numpy(item)

  @torch.no_grad()
  def hit_rate(self, items: torch.Tensor, valid: torch.Tensor) -> float:
    """Candidates [users, C], the held-out one last -> share of hits."""
    hits, rows = 0, self._hp.eval_batch_size
    for first in range(0, len(items), rows):
      some = items[first : first + rows]
      users = torch.arange(first, first + len(some))
      users = users[:, None].expand(some.shape)
      scores = torch.sigmoid(self.model(users.reshape(-1), some.reshape(-1)))
      scores = scores.view(some.shape).masked_fill(
        ~valid[first : first + rows], -1
      )
      best = torch.topk(scores, self._hp.hit_rank)[1]
      hits += int((best == some.shape[1] - 1).sum())
    return hits / len(items)


@dataclasses.dataclass(frozen=True)
class Run:
  """Cost of a run until the target, and the hit rate that met it."""

  seconds: float
  core_seconds: float  # of all threads, whoever else is on the cores
  epochs: int
  quality: float


def theirs(hp: ncf.Hparams, directory: str, seed: int, target: float) -> Run:
  """Trains the PyTorch side from reading the data to the target."""
  trainer = Trainer(hp, seed)
  start, worked = time.perf_counter(), time.process_time()
  pairs = movielens.load(directory)
  drawn = movielens.eval_candidates(
    pairs, seed=EVAL_SEED, negatives=hp.eval_negatives
  )
  valid = torch.from_numpy(movielens.distinct(pairs, drawn))
  items = torch.from_numpy(np.column_stack([drawn, pairs.test_item])).long()
  for epoch in range(1, hp.max_epochs + 1):
    trainer.epoch(pairs)
    quality = trainer.hit_rate(items, valid)
    if quality >= target:
      took = time.perf_counter() - start, time.process_time() - worked
      return Run(*took, epoch, quality)
  raise RuntimeError(f'PyTorch did not reach {target}; last {quality:.4f}.')


def ours(hp, data, directory: str, seed: int, target: float) -> Run:
  """The benchmark's own loop, from run_start to run_stop."""
  one = timed_run.to_target(
    make_task(hp, data), Target(at_least={'HR@10': target}), directory, seed
  )
  at, quality = one.last.at['epoch_num'], one.last.quality['HR@10']
  return Run(one.seconds, one.core_seconds, at, quality)


def compare_runs(size, hp, directory: str) -> None:
  """Prints every run as it ends, and the ratios of the medians."""
  found: dict[str, list[Run]] = {}
  for seed in range(_RUNS.value):
    for name, run in (
      ('PyTorch, adam', lambda s: theirs(hp, directory, s, _GOAL.value)),
      *(
        (
          f'here, {kind}',
          lambda s, kind=kind: ours(
            dataclasses.replace(hp, opt_name=kind),
            size.data,
            directory,
            s,
            _GOAL.value,
          ),
        )
        for kind in ('adam', 'lazy_adam')
      ),
    ):
      one = run(seed)
      found.setdefault(name, []).append(one)
      print(
        f'{name}, seed {seed}: {one.seconds:.1f} s, '
        f'{one.core_seconds:.1f} s of a core, {one.epochs} epochs, '
        f'HR@10 {one.quality:.4f}',
        flush=True,
      )
  for what in ('seconds', 'core_seconds'):
    middle = {
      name: statistics.median(getattr(run, what) for run in runs)
      for name, runs in found.items()
    }
    for name, value in middle.items():
      ratio = middle['PyTorch, adam'] / value
      print(f'{what}, {name}: {ratio:.2f} times as fast')


def compare_steps(hp: ncf.Hparams) -> None:
  """Prints the median seconds of a step, on batches of random pairs."""
  draws, rows = np.random.default_rng(0), hp.global_batch_size
  columns = {
    'user': draws.integers(0, hp.users, rows).astype(np.int32),
    'item': draws.integers(0, hp.items, rows).astype(np.int32),
    'label': (draws.random(rows) < 0.2).astype(np.float32),
    'weight': np.ones(rows, np.float32),
  }
  trainer = Trainer(hp, 0)
  batch = [torch.from_numpy(columns[n]) for n in ('user', 'item', 'label')]
  batch = [batch[0].long(), batch[1].long(), batch[2]]
  _print_steps('PyTorch, adam', lambda: trainer.step(*batch).item())
  data = benchmark_lib.get('ncf').size('reference').data
  for kind in ('adam', 'lazy_adam'):
    task = make_task(dataclasses.replace(hp, opt_name=kind), data)
    state = jax.jit(lambda s, t=task: t.init(jax.random.key(s, impl='rbg')))(0)
    step = jax.jit(task.train_step, donate_argnums=0)
    held = [state]

    def once(step=step, held=held):
      held[0], _ = step(held[0], columns)
      jax.block_until_ready(held[0])

    _print_steps(f'here, {kind}', once)


def _print_steps(name: str, once) -> None:
  once()
  seconds, busy = [], []
  for _ in range(_STEPS.value):
    start, worked = time.perf_counter(), time.process_time()
    once()
    seconds.append(time.perf_counter() - start)
    busy.append(time.process_time() - worked)
  wall, cores = (1e3 * statistics.median(each) for each in (seconds, busy))
  print(f'{name}: {wall:.1f} ms a step, {cores:.1f} ms of a core', flush=True)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  changes = dict(text.split('=', 1) for text in _CHANGES.value)
  size = benchmark_lib.get('ncf').size('reference' if _STEPS.value else 'tiny')
  hp = hparams.override(size.hparams, changes, hparams.Division.OPEN)
  if _STEPS.value:
    compare_steps(hp)
  else:
    compare_runs(size, hp, dataset.find(_DATA_DIR.value, size.data.name))


if __name__ == '__main__':
  app.run(main)
