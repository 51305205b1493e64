r"""Effect of the size of NCF's data on a step: plain and expanded MovieLens.

JAX_PLATFORMS=cpu python studies/data_size.py

The model, the batch and the arithmetic are the same for both data sets; only
the tables differ: 138,493 users and 26,744 items, or 2,197,225 and 855,776. The
batches are drawn here, with users of unequal size and items of unequal
popularity, a positive in five. Printed for each data set, as a table:

- what the tables hold, and how many of their rows a batch names;
- the bytes that a step must move, counted by hand: of the rows looked up, of
  the rows updated (lazy Adam) or of every row (dense Adam), and of the tower;
- milliseconds of a step with either optimizer, in turns, medians;
- milliseconds to score 1,024 users' 1,000 candidates.

--shrink=100 makes all tables so many times smaller, for a quick look. At full
size it needs 12 GB and some minutes.
"""

import dataclasses
import os
import statistics
import sys
import time

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import numpy as np

from suite.benchmarks import ncf
from suite.benchmarks.ncf.task import make_task
from suite.clock import Clock
from suite.run import sharding
from suite.run.program import Program

_BATCH = flags.DEFINE_integer('batch', 65_536, 'Samples of a step.')
_STEPS = flags.DEFINE_integer('steps', 10, 'Steps timed of each kind.')
_SHRINK = flags.DEFINE_integer('shrink', 1, 'Tables so many times smaller.')

_FLOAT = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Case:
  """A data set as the model sees it."""

  name: str
  size: str
  user_copies: int  # of each user of the plain data, in the expanded
  item_copies: int


CASES = (Case('plain', 'reference', 1, 1), Case('expanded', 'expanded', 16, 32))


def hparams(case: Case, opt_name: str) -> ncf.Hparams:
  """The size's own, with the batch and the optimizer asked for."""
  hp = ncf.BENCHMARK.sizes[case.size].hparams
  return dataclasses.replace(
    hp,
    global_batch_size=_BATCH.value,
    opt_name=opt_name,
    users=hp.users // _SHRINK.value,
    items=hp.items // _SHRINK.value,
  )


def batches(hp: ncf.Hparams, case: Case, count: int) -> list[dict]:
  """Training batches: popular items, busy users, one positive in five."""
  rng = np.random.default_rng(0)
  users, items = hp.users // case.user_copies, hp.items // case.item_copies
  weight = rng.lognormal(0, 1.1, users)
  found = []
  for _ in range(count):
    user = rng.choice(users, _BATCH.value, p=weight / weight.sum())
    label = rng.random(_BATCH.value) < 0.2
    popular = items * rng.random(_BATCH.value) ** 2.5
    item = popular.astype(np.int64) * case.item_copies
    item += rng.integers(0, case.item_copies, _BATCH.value)
    anything = rng.integers(0, hp.items, _BATCH.value)
    user = user * case.user_copies
    user += rng.integers(0, case.user_copies, _BATCH.value)
    found.append(
      {
        'user': user.astype(np.int32),
        'item': np.where(label, item, anything).astype(np.int32),
        'label': label.astype(np.float32),
        'weight': np.ones(_BATCH.value, np.float32),
      }
    )
  return found


def named_rows(given: list[dict]) -> float:
  """Rows of both tables that a batch names, each counted once; the mean."""
  return statistics.mean(
    len(np.unique(batch['user'])) + len(np.unique(batch['item']))
    for batch in given
  )


def bytes_of(hp: ncf.Hparams, named: float) -> dict[str, float]:
  """Bytes that a step must move at least, by what moves them."""
  width = hp.mf_width + hp.mlp_layers[0] // 2
  row = width * _FLOAT
  rows = hp.users + hp.items
  tower = sum(
    a * b + b for a, b in zip(hp.mlp_layers, hp.mlp_layers[1:], strict=False)
  )
  # Forward writes what backward reads; gradients the same once more.
  activations = 4 * _BATCH.value * sum(hp.mlp_layers[1:]) * _FLOAT
  return {
    'tables': rows * row,
    # Two rows a sample are read, and their gradients written.
    'looked up': 2 * 2 * _BATCH.value * row,
    # Parameter and two moments, read and written; the summed gradient read.
    'lazy update': 7 * named * row,
    # The gradient of a table is zeroed, added to and read besides.
    'dense update': 9 * rows * row,
    'tower': 7 * tower * _FLOAT + activations,
  }


def program_of(case: Case, opt_name: str) -> Program:
  """The compiled benchmark on one device."""
  hp = hparams(case, opt_name)
  data = dataclasses.replace(
    ncf.BENCHMARK.sizes[case.size].data, eval_samples=hp.users
  )
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  return Program.build(make_task(hp, data), mesh, Clock())


def milliseconds(case: Case, opt_name: str, given: list[dict]) -> list[float]:
  """Seconds of each training step but the first."""
  program = program_of(case, opt_name)
  state = program.fresh_state(0)
  taken = []
  for batch in given:
    rows = sharding.put_rows(batch, program.mesh)
    jax.block_until_ready((state, rows))
    begin = time.perf_counter()
    state, metrics = program.train_step(state, rows)
    jax.block_until_ready((state, metrics))
    taken.append(1000 * (time.perf_counter() - begin))
  return taken[1:]


def scoring(case: Case) -> list[float]:
  """Milliseconds to rank the candidates of 1,024 users."""
  hp = hparams(case, 'lazy_adam')
  program = program_of(case, 'lazy_adam')
  state, rng = program.fresh_state(0), np.random.default_rng(1)
  users, candidates = program.predict.specs[0]['item'].shape
  batch = {
    'user': rng.integers(0, hp.users, users).astype(np.int32),
    'item': rng.integers(0, hp.items, (users, candidates)).astype(np.int32),
    'valid': np.ones((users, candidates), bool),
    'weight': np.ones(users, np.float32),
  }
  rows = sharding.put_rows(batch, program.mesh)
  taken = []
  for _ in range(4):
    begin = time.perf_counter()
    jax.block_until_ready(program.predict(state, rows, program.carry()))
    taken.append(1000 * (time.perf_counter() - begin))
  return taken[1:]


def column(case: Case) -> dict[str, str]:
  """One data set, measured."""
  hp = hparams(case, 'adam')
  given = batches(hp, case, _STEPS.value + 1)
  named = named_rows(given)
  moved = bytes_of(hp, named)
  told = {
    'rows of both tables': f'{hp.users + hp.items:,}',
    'tables, and with the moments of Adam': (
      f'{moved["tables"] / 1e6:,.0f} MB, {3 * moved["tables"] / 1e6:,.0f} MB'
    ),
    'rows that a batch names': (
      f'{named:,.0f} ({named / (hp.users + hp.items):.1%})'
    ),
  }
  for name in ('looked up', 'lazy update', 'dense update', 'tower'):
    told[f'bytes: {name}'] = f'{moved[name] / 1e6:,.0f} MB'
  for opt_name, update in (('lazy_adam', 'lazy'), ('adam', 'dense')):
    print(f'{case.name}: {opt_name} ...', file=sys.stderr, flush=True)
    median = statistics.median(milliseconds(case, opt_name, given))
    total = moved['looked up'] + moved[f'{update} update'] + moved['tower']
    told[f'a step, {update} Adam'] = f'{median:,.0f} ms'
    told[f'its bytes over its time, {update} Adam'] = (
      f'{total / median / 1e6:.1f} GB/s'
    )
  print(f'{case.name}: scoring ...', file=sys.stderr, flush=True)
  told['scoring 1,024 users'] = f'{statistics.median(scoring(case)):,.0f} ms'
  return told


def main(argv) -> None:
  """Measures both and prints a table."""
  del argv
  columns = [column(case) for case in CASES]
  print('| | ' + ' | '.join(case.name for case in CASES) + ' |')
  print('|---' * (1 + len(CASES)) + '|')
  for name in columns[0]:
    print(f'| {name} | ' + ' | '.join(told[name] for told in columns) + ' |')


if __name__ == '__main__':
  app.run(main)
