"""Made-up clicks with Criteo's schema: a small Criteo.

A click's chance follows from a bias of each of its values, from pairs of
columns whose values meet as a dot product of latent factors, from the logarithm
of its counts, and from products of counts and values; so a model of sums of
columns misses most of it. Values are as unequal as words are, tables have 3 to
some 100,000 rows, counts have heavy tails, and some fields are missing. Clicks
are written as text, as Criteo's days are, and then take Criteo's own steps.
"""

import dataclasses
import functools
import os
import tempfile
from typing import Any

import numpy as np

from input_pipelines.criteo import CATEGORIES, COUNTS, DAYS, prepare
from input_pipelines.writing import recipe

ROWS = {'train': 1_000_000, 'test': 60_000}
HOTS = (
  2, 1, 1, 1, 2, 1, 1, 1, 1, 3, 1, 2, 1, 1, 2, 1, 1, 1, 1, 3, 6, 4, 2, 1, 1, 1,
)  # fmt: skip
CAP = 20_000  # rows of a table of the multi-hot clicks at most
TABLES = (
  103728, 301, 201, 121, 201, 3, 121, 41, 21, 29660, 1501, 401, 11, 61, 151, 51,
  5, 61, 15, 47132, 4001, 19960, 601, 131, 61, 37,
)  # fmt: skip
MULTI_HOT_TABLES = (
  20000, 301, 201, 121, 201, 3, 121, 41, 21, 20000, 1501, 401, 11, 61, 151, 51,
  5, 61, 15, 20000, 4001, 19967, 601, 131, 61, 37,
)  # fmt: skip

_SEED = 22
# Values that each column is drawn from.
_VALUES = (
  220_000, 300, 200, 120, 200, 3, 120, 40, 20, 30_000, 1500, 400, 10, 60, 150,
  50, 4, 60, 14, 50_000, 4000, 20_000, 600, 130, 60, 36,
)  # fmt: skip
# Columns whose values meet: each click has the dot products of their factors.
_PAIRS = (
  (0, 9), (1, 2), (3, 4), (6, 13), (7, 10), (11, 12), (14, 15), (17, 18),
  (19, 22), (20, 23), (24, 25), (8, 21),
)  # fmt: skip
_MIXED = ((5, 2), (16, 3), (25, 4), (18, 5))  # a column and a count
_FACTORS = 3
_PAIR_WEIGHT = 0.42
_MIXED_WEIGHT = 0.35
_BIAS = 0.22
_COUNT_WEIGHT = 0.4
_CONSTANT = -1.8
_RARE = 0.1  # of the clicks, in a large table
_NEVER_MISSING = 5  # a column of three values
_DIGITS = 6  # of a count at most
_MISSING_COUNTS, _NEGATIVE_COUNTS, _MISSING_VALUES = 0.1, 0.03, 0.02


@dataclasses.dataclass(frozen=True)
class Spec:
  """A data set of made-up clicks."""

  name: str
  rows: int = ROWS['train']  # to train on
  test_rows: int = ROWS['test']
  hots: tuple[int, ...] | None = None  # None: one id in each table
  cap: int = prepare.CAP  # rows of a table at most, of several ids
  shards: int = 4  # to train on

  @property
  def rows_of(self) -> dict[str, int]:
    """Clicks of each split."""
    return {'train': self.rows, 'test': self.test_rows}

  @property
  def shards_of(self) -> dict[str, int]:
    """Files of each split, at most."""
    return {'train': self.shards, 'test': 1}

  @property
  def version(self) -> prepare.Version:
    """The version of the benchmark whose steps they take."""
    if self.hots is None:
      return prepare.Version(self.name)
    return prepare.Version(self.name, self.hots, self.cap)


ONE_HOT = Spec('clicks')
MULTI_HOT = Spec('clicks_multi_hot', hots=HOTS, cap=CAP)


def write(
  data_dir: str | os.PathLike, spec: Spec, order: recipe.Order | None = None
) -> str:
  """Writes a data set into a directory of data sets; returns its own one."""
  order = order or recipe.Order(os.fspath(data_dir), '')
  with tempfile.TemporaryDirectory() as folder:
    write_days(folder, rows=spec.rows, test_rows=spec.test_rows)
    return prepare.build(
      dataclasses.replace(order, downloads=folder),
      spec.version,
      rows=spec.rows_of,
      shards=spec.shards_of,
      made={'generated': dataclasses.asdict(spec)},
    )


def write_days(folder: str, *, rows: int, test_rows: int) -> None:
  """Writes day_0 to day_23: the last has twice `test_rows`."""
  ends = np.linspace(0, rows, DAYS).astype(int)
  of_days = [*np.diff(ends), 2 * test_rows]
  for day, count in enumerate(of_days):
    clicks = make(int(count), day)
    with open(os.path.join(folder, f'day_{day}'), 'wb') as file:
      file.write(text(clicks))


@dataclasses.dataclass(frozen=True)
class Clicks:
  """Made-up clicks."""

  label: np.ndarray  # uint8 [N]
  counts: np.ndarray  # int32 [N, 13]
  no_count: np.ndarray  # bool [N, 13], where a count is missing
  values: np.ndarray  # uint32 [N, 26]
  no_value: np.ndarray  # bool [N, 26]
  chance: np.ndarray  # float64 [N], of a click


def make(count: int, day: int) -> Clicks:
  """The clicks of a day."""
  world = _world()
  draws = np.random.default_rng((_SEED, 1, day))
  ranks = np.stack(
    [np.searchsorted(c, draws.random(count)) for c in world.cumulative], 1
  )
  normal = draws.normal(size=(count, COUNTS))
  counts = np.exp(world.spread * normal + world.centre)
  counts = np.minimum(counts, 10**_DIGITS - 1).astype(np.int32)
  counts[draws.random((count, COUNTS)) < _NEGATIVE_COUNTS] = -1
  no_count = draws.random((count, COUNTS)) < _MISSING_COUNTS
  no_value = draws.random((count, CATEGORIES)) < _MISSING_VALUES
  no_value[:, _NEVER_MISSING] = False
  known = np.where(no_count, 0, np.maximum(counts, 0))
  scaled = (np.log(known + 1.0) - world.centre) / world.spread
  logit = _CONSTANT + scaled @ world.weight
  logit += 0.35 * np.sin(2 * (scaled[:, 0] - scaled[:, 1]))
  factors = []
  for column in range(CATEGORIES):
    there = ~no_value[:, column]
    logit += there * world.bias[column][ranks[:, column]]
    factors.append(there[:, None] * world.factors[column][ranks[:, column]])
  for one, other in _PAIRS:
    logit += _PAIR_WEIGHT * (factors[one] * factors[other]).sum(1)
  for column, number in _MIXED:
    logit += _MIXED_WEIGHT * factors[column][:, 0] * scaled[:, number]
  chance = 1 / (1 + np.exp(-logit))
  values = np.stack(
    [world.names[c][ranks[:, c]] for c in range(CATEGORIES)], axis=1
  )
  label = (draws.random(count) < chance).astype(np.uint8)
  return Clicks(label, counts, no_count, values, no_value, chance)


def text(clicks: Clicks) -> bytes:
  """The lines of some clicks."""
  count = len(clicks.label)
  digits = _decimal(clicks.counts) * ~clicks.no_count[..., None]
  pairs = clicks.values.astype('>u4').view(np.uint8).reshape(count, -1, 4)
  nibbles = np.stack([pairs >> 4, pairs & 15], axis=3)
  letters = np.frombuffer(b'0123456789abcdef', np.uint8)[nibbles]
  letters = letters.reshape(count, CATEGORIES, 8)
  letters = letters * ~clicks.no_value[..., None]
  # What is not written of a line's most characters is 0, and left out.
  parts = [
    (clicks.label + np.uint8(ord('0')))[:, None],
    _after_tabs(digits),
    _after_tabs(letters),
    np.full((count, 1), ord('\n'), np.uint8),
  ]
  lines = np.concatenate(parts, axis=1)
  return lines[lines != 0].tobytes()


def _decimal(numbers: np.ndarray) -> np.ndarray:
  """Characters of integers [N, K] from -1 on: uint8 [N, K, _DIGITS + 1]."""
  characters = np.empty((*numbers.shape, _DIGITS + 1), np.uint8)
  characters[..., 0] = (numbers < 0) * ord('-')
  left = np.abs(numbers)
  for place in range(_DIGITS, 0, -1):
    written = (left > 0) | (place == _DIGITS)
    characters[..., place] = (left % 10 + ord('0')) * written
    left //= 10
  return characters


def _after_tabs(fields: np.ndarray) -> np.ndarray:
  """Fields [N, K, W] with a tab before each: [N, K * (W + 1)]."""
  tabs = np.full((*fields.shape[:2], 1), ord('\t'), np.uint8)
  return np.concatenate([tabs, fields], axis=2).reshape(len(fields), -1)


@dataclasses.dataclass(frozen=True)
class _World:
  """Facts of all days; a list has an array for each column of values."""

  cumulative: list[np.ndarray]  # float64 [V], chances of the values
  names: list[np.ndarray]  # uint32 [V]
  bias: list[np.ndarray]  # float64 [V]
  factors: list[np.ndarray]  # float64 [V, 3]
  centre: np.ndarray  # float64 [13], of the logarithm of the counts
  spread: np.ndarray  # float64 [13]
  weight: np.ndarray  # float64 [13]


@functools.cache
def _world() -> _World:
  draws = np.random.default_rng((_SEED, 0))
  cumulative, names, bias, factors = [], [], [], []
  for size in _VALUES:
    large = size > 1000
    fall = draws.uniform(1.35, 1.5) if large else draws.uniform(1.0, 1.4)
    chance = (draws.permutation(size) + 2.7) ** -fall
    chance /= chance.sum()
    if large:  # few values have most clicks, very many one or two each
      chance += _RARE * (1 / size - chance)
    cumulative.append(np.cumsum(chance)[:-1])
    names.append(draws.integers(1, 2**32, size=size, dtype=np.uint32))
    bias.append(draws.normal(0, _BIAS, size))
    factors.append(draws.normal(size=(size, _FACTORS)))
  return _World(
    cumulative,
    names,
    bias,
    factors,
    centre=draws.uniform(0, 2, COUNTS),
    spread=draws.uniform(1, 1.4, COUNTS),
    weight=draws.normal(0, _COUNT_WEIGHT, COUNTS),
  )


def _recipe(spec: Spec, tables: tuple[int, ...], **fields: Any):
  return prepare.recipe_of(
    spec.version,
    rows=spec.rows_of,
    tables=tables,
    shards=spec.shards_of,
    licence='none needed; it is generated',
    build=lambda order: write(order.data_dir, spec, order),
    **fields,
  )


RECIPES = (
  _recipe(
    ONE_HOT,
    TABLES,
    summary='a million made-up clicks with the schema of Criteo',
    bytes=170_000_000,
  ),
  _recipe(
    MULTI_HOT,
    MULTI_HOT_TABLES,
    summary='the same clicks with several ids for each value',
    bytes=171_000_000,
  ),
)
