"""Samples a second that training on pairs and their negatives is fed with.

JAX_PLATFORMS=cpu python studies/negative_sampling.py

Pairs are generated in the numbers of MovieLens 20M, or of --users, --items and
--pairs, with a popularity that falls off; then batches of an epoch are made on
one core, without threads, and with a thread a core. Rates of one core are in
samples per second of CPU, so that other work on the machine disturbs them
little; it still does, by the memory that all cores share.
"""

import os
import sys
import time

from absl import app, flags
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.movielens import read as movielens
from input_pipelines.reading import batching, random_access

_USERS = flags.DEFINE_integer('users', movielens.USERS, 'Users.')
_ITEMS = flags.DEFINE_integer('items', movielens.ITEMS, 'Items.')
_PAIRS = flags.DEFINE_integer(
  'pairs', movielens.ROWS['train'], 'Pairs to train on, about.'
)
_SAMPLES = flags.DEFINE_integer(
  'samples', 10_000_000, 'Samples that each figure is measured on.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Turns of each candidate.')

_BATCHES = (2048, 65_536, 1_048_576)
_CHUNK = 1000  # users whose pairs are generated together


def generate(users: int, items: int, pairs: int) -> movielens.Interactions:
  """Pairs of users of unequal size and items of unequal popularity."""
  rng = np.random.default_rng(0)
  size = rng.lognormal(0, 1.1, users)
  size = 20 + size * max(0, pairs - 20 * users) / size.sum()
  size = np.minimum(size, items // 3).astype(int)
  found = []
  for first in range(0, users, _CHUNK):
    of = np.repeat(
      np.arange(first, min(first + _CHUNK, users)), size[first : first + _CHUNK]
    )
    # Distinct: places of each user's own random order, dense at popular items.
    nth = np.arange(len(of)) - np.searchsorted(of, of)
    item = items * ((nth + rng.random(len(of))) / size[of]) ** 2.5
    found.append(np.unique(movielens.key(of, item.astype(np.int64))))
    if not first % (20 * _CHUNK):
      print(f'\rgenerating, {first / users:.0%}', end='', flush=True)
  keys = np.concatenate(found)
  print(f'\r{len(keys):,} pairs of {users:,} users and {items:,} items')
  test_item = np.zeros(users, np.int32)
  return movielens.Interactions(users, items, keys, test_item)


def rate(data: movielens.Interactions, wall: bool, **how) -> float:
  """Samples a second, by the wall's clock or per CPU second."""
  clock = time.perf_counter if wall else time.process_time
  stream = movielens.train_epoch(data, epoch=0, seed=1, **how)
  next(stream)
  samples, begin = 0, clock()
  for batch in stream:
    samples += len(batch['user'])
    if samples >= _SAMPLES.value:
      break
  seconds = clock() - begin
  stream.close()
  return samples / seconds


def seconds_of(what) -> float:
  """CPU seconds of a call."""
  begin = time.process_time()
  what()
  return time.process_time() - begin


def main(argv) -> None:
  del argv
  data = generate(_USERS.value, _ITEMS.value, _PAIRS.value)
  first = movielens.key(np.zeros(1, int), np.zeros(1, int))
  print(
    f'index of the pairs: {seconds_of(lambda: data.holds(first)):.2f} CPU s'
  )
  cores = batching.default_threads()
  rates = {}
  for turn in range(_ROUNDS.value):
    print(f'\rround {turn + 1} of {_ROUNDS.value}', end='', flush=True)
    for batch_size in _BATCHES:
      for reject in (True, False):
        for threads in (0, cores):
          found = rate(
            data,
            bool(threads),
            batch_size=batch_size,
            reject=reject,
            threads=threads,
          )
          rates.setdefault((batch_size, reject, threads), []).append(found)
  print(f'\n{"batch":>9}{"rejection":>11}{"threads":>9}  million samples a s')
  for (batch_size, reject, threads), found in rates.items():
    unit = 'of wall clock' if threads else 'of CPU'
    print(
      f'{batch_size:9,}{"yes" if reject else "no":>11}{threads:9}'
      f'{np.median(found) / 1e6:10.1f} {unit}, {min(found) / 1e6:.1f} to '
      f'{max(found) / 1e6:.1f}'
    )
  candidates = None

  def draw():
    nonlocal candidates
    candidates = movielens.eval_candidates(data, seed=0)

  print(f'999 candidates of every user: {seconds_of(draw):.2f} CPU s')
  seconds = seconds_of(lambda: movielens.distinct(data, candidates))
  print(f'which of them are repeats: {seconds:.2f} CPU s')
  order = random_access.Order(5 * len(data), 1)
  places = np.arange(1 << 16)
  seconds = min(seconds_of(lambda: order(places)) for _ in range(20))
  print(f'of a sample, its place alone: {seconds / len(places) * 1e9:.1f} ns')


if __name__ == '__main__':
  app.run(main)
