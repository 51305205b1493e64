"""Share of padding in batches of translation, on WMT's lengths.

python studies/padding_waste.py

Lengths are drawn, not read. English ones are log-normal; a German sentence is
as much longer as Gale and Church (1993) found: normal around a factor, with a
variance in proportion to the length, 6.8 characters each. The means follow from
what is published of the corpora: 116 and 110 million words in 4.5 million pairs
(Luong et al., 2015), at 1.07 and 1.21 subwords a word, and the end of the
sentence. A published result of round v0.7 packed its 4,590,101 pairs into
566,340 rows of 256; ours come to about as many, printed below, which is the
check on these numbers. The spread (--variation) is an assumption; it moves the
waste little.

Waste is padding of all tokens of a batch, both sides; with it, the padding of
the fuller side alone.
"""

import os
import sys
import time

from absl import app, flags
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.text import buckets, packing

_PAIRS = flags.DEFINE_integer('pairs', 4_590_101, 'Pairs that are drawn.')
_ENGLISH = flags.DEFINE_float('english', 28.6, 'Mean tokens, EOS included.')
_GERMAN = flags.DEFINE_float('german', 30.5, 'Mean tokens, EOS included.')
_VARIATION = flags.DEFINE_float(
  'variation', 0.65, 'Standard deviation of the English lengths, of the mean.'
)
_ALL = 4_590_101  # pairs of WMT17, to scale counts to
_PER_TOKEN = 6.8 / 5  # variance, in tokens of about 5 characters


def draw(rng: np.random.Generator, pairs: int) -> np.ndarray:
  """Lengths of both sides: int64 [pairs, 2]."""
  spread = np.log1p(_VARIATION.value**2)
  mean = np.log(_ENGLISH.value - 1) - spread / 2
  english = rng.lognormal(mean, np.sqrt(spread), pairs)
  factor = (_GERMAN.value - 1) / (_ENGLISH.value - 1)
  noise = np.sqrt(_PER_TOKEN * english) * rng.normal(size=pairs)
  sides = np.stack([english, factor * english + noise], axis=1)
  return np.maximum(1 + np.rint(sides), 1).astype(np.int64)


def report(name: str, lengths: np.ndarray, plan, seconds: float) -> None:
  """One line of an epoch's batches."""
  used, had = np.zeros(2), np.zeros(2)
  for step in range(plan.steps):
    group = plan.group(0, step)
    sides = np.minimum(lengths[group.members], plan.max_length)
    used += sides.sum(axis=0)
    had += group.shape.rows * np.array([group.shape.source, group.shape.target])
  waste, fuller = 1 - used.sum() / had.sum(), 1 - (used / had).max()
  print(
    f'{name:46} {len(plan.shapes):6} {waste:8.1%} {fuller:8.1%}'
    f' {plan.steps:8,} {seconds:8.2f}',
    flush=True,
  )


def longest_of_batch(lengths: np.ndarray, plan) -> float:
  """The waste where each side is padded to the longest of its own batch."""
  used = had = 0
  for step in range(plan.steps):
    sides = lengths[plan.group(0, step).members]
    used += sides.sum()
    had += len(sides) * sides.max(axis=0).sum()
  return 1 - used / had


def main(argv):
  """Draws lengths and goes through an epoch of every way to batch them."""
  del argv
  lengths = draw(np.random.default_rng(0), _PAIRS.value)
  means = lengths.mean(axis=0)
  print(f'{len(lengths):,} pairs, of {means[0]:.1f} and {means[1]:.1f} tokens')
  print(
    f'{"":46} {"shapes":>6} {"waste":>8} {"fuller":>8} {"steps":>8} '
    f'{"plan, s":>8}'
  )
  for tokens, max_length, scale in (
    (4096, 256, 1.1),
    (81_920, 256, 1.1),
    (81_920, 256, 1.0),
    (81_920, 256, 1.3),
    (81_920, 64, 1.1),
  ):
    begin = time.process_time()
    shapes = buckets.shapes(tokens, max_length, scale=scale)
    plan = buckets.Bucketed(lengths, shapes, max_length=max_length)
    plan.group(0, 0)
    seconds = time.process_time() - begin
    name = f'buckets: {tokens} tokens, up to {max_length}, x{scale}'
    report(name, lengths, plan, seconds)
    if (tokens, scale) == (4096, 1.1):
      waste = longest_of_batch(lengths, plan)
      print(
        f'{"  each side to the longest of its batch":46} {"":6} {waste:8.1%}'
      )
  for max_length, source, target in (
    (256, 256, 256),
    (80, 256, 256),
    (256, 240, 256),
    (80, 240, 256),
    (256, 480, 512),
  ):
    begin = time.process_time()
    shape = buckets.Shape(512, source, target)
    plan = packing.Packed(lengths, shape, max_length=min(max_length, source))
    seconds = time.process_time() - begin
    name = f'packed: rows of {source} and {target}, up to {max_length}'
    report(name, lengths, plan, seconds)
    if (max_length, source) == (256, 256):
      rows = len(plan.rows) * _ALL / len(lengths)
      print(f'  rows for all of WMT17: {rows:,.0f}; published: 566,340')


if __name__ == '__main__':
  app.run(main)
