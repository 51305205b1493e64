"""The start of a run of MiniGo: a net, its games, and the target net.

A TFDS data set `minigo_start/<side>x<side>`, a configuration for each board.
Its weights (`reading.arrays`) are leaves of the state of a run: `step`,
`params/conv/kernel`, `stats/target/params/...`, `opt/...`; where nothing but a
target is given, only that. It has one split:

  games    a game a record: 'generation', 'outcome' and the fields of its
           recorded positions, none of a game without any

or none, where there are no games. Who made it and the fields of a position are
in the metadata's description, so they are checked without a record being read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import hashlib
import json
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.reading import arrays, dataset
from input_pipelines.self_play import replay
from input_pipelines.writing import weights as weights_lib
from input_pipelines.writing import work, writer

NAME = 'minigo_start'
VERSION = '3.0.0'
GAMES = 'games'
# Who made it: the value of `ORIGIN`. All but the official is ours.
ORIGIN, OFFICIAL, OURS = 'origin', 'official', 'ours'

_SUMMARY = 'Start of a run of MiniGo, and the net that it has to beat.'
_GENERATION, _OUTCOME = 'generation', 'outcome'
_FEATURES = ('name', 'dtype', 'shape', 'data')
_SHARD_BYTES = 1 << 28
_READ = 64  # games that are read at once

# dtype as '<f4', and shape
Shape = tuple[str, tuple[int, ...]]


def write(
  data_dir: str | os.PathLike,
  config: str,
  weights: Mapping[str, np.ndarray],
  games: Iterable[tuple[int, replay.Game]],
  about: Mapping[str, Any],
  *,
  progress: work.Progress | None = None,
) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.
    config: the board, as '19x19'.
    weights: by the path of a leaf of the state.
    games: the number of its generation with each, in which they rise.
    about: who made it and how, as JSON has it; see `ORIGIN`.
    progress: told of the records.

  Returns:
    The data set's own directory.
  """
  played = [_game_arrays(number, game) for number, game in games]
  texts = tfds.features.Sequence(tfds.features.Text())
  return weights_lib.write(
    data_dir,
    f'{NAME}/{config}',
    VERSION,
    weights,
    _described(about, weights, played),
    summary=_SUMMARY,
    features=dict.fromkeys(_FEATURES, texts),
    splits=[_split(GAMES, played)] if played else [],
    progress=progress,
  )


def about(directory: str | os.PathLike) -> dict[str, Any]:
  """Reads what `write` was told about the data set, from its metadata.

  Beside that: 'fields', name -> [dtype, shape] of what is kept of a position;
  'generations', number -> games; 'sha256' of all games.
  """
  info = dataset.load(directory).info
  try:
    found = json.loads(info.description.rpartition('\n')[2])
    if not {ORIGIN, 'fields', 'generations'} <= found.keys():
      raise ValueError(f'got {sorted(found)}')
  except (ValueError, AttributeError) as error:
    raise ValueError(
      f'Expected {directory} to say what it is about, as {NAME} does, got '
      f'{info.full_name}: {error}.'
    ) from None
  found['generations'] = {
    int(number): games for number, games in found['generations'].items()
  }
  return found


def logged(directory: str | os.PathLike) -> dict[str, Any]:
  """Lines that the log of a run from this start must have, by key."""
  origin = about(directory)[ORIGIN]
  return {
    'podium_start_origin': origin,
    'podium_comparable': origin == OFFICIAL,
  }


def verify(
  directory: str | os.PathLike,
  *,
  fields: Mapping[str, Shape] | None = None,
  generations: Iterable[int] = (),
  games: int = 1,
) -> None:
  """Raises ValueError unless the data set is whole and has what is asked for.

  Args:
    directory: the data set's.
    fields: of a position, all that there must be.
    generations: of which there must be games.
    games: of each of them, at least.
  """
  found = about(directory)
  splits = {}
  if found['generations']:
    splits[GAMES] = sum(found['generations'].values())
  dataset.verify(directory, splits=splits)
  arrays.of_data_set(directory)
  generations = list(generations)
  lack = [n for n in generations if found['generations'].get(n, 0) < games]
  if lack:
    raise ValueError(
      f'Expected {games} games or more of the generations {generations} in '
      f'{directory}, got {found["generations"]}, by generation.'
    )
  for name, (dtype, shape) in (fields or {}).items() if generations else ():
    if (of_name := found['fields'].get(name)) != [dtype, list(shape)]:
      raise ValueError(
        f'Expected a field {name!r} {dtype} {tuple(shape)} of positions in '
        f'{directory}, got {of_name or "none"}.'
      )


def games(
  directory: str | os.PathLike,
  host: int = 0,
  hosts: int = 1,
  *,
  generations: Iterable[int] | None = None,
) -> Iterator[tuple[int, replay.Game]]:
  """This host's games, generation by generation, the oldest first.

  The n-th game of each is that of host n modulo hosts. By default they are of
  all generations.
  """
  counts = about(directory)['generations']
  wanted = set(counts if generations is None else generations)
  if not wanted & counts.keys():
    return
  split = dataset.Split(directory, GAMES)
  first = 0
  for generation, count in sorted(counts.items()):
    share = range(first + host, first + count, hosts)
    if generation in wanted:
      for at in range(0, len(share), _READ):
        numbers = share[at : at + _READ]
        records = split.records(numbers)
        for number, record in zip(numbers, records, strict=True):
          yield generation, _game(split, number, record, generation)
    first += count


def check(record: Mapping[str, Any]) -> None:
  """Raises ValueError unless the features of a record are arrays by name."""
  _unpacked(record)


def _described(about, weights, played) -> dict[str, Any]:
  """Adds facts of the games to `about`; ValueError for what is no start.

  A game without positions has no fields.
  """
  if about.get(ORIGIN) not in (OFFICIAL, OURS):
    raise ValueError(
      f'Expected {ORIGIN!r} to be {OFFICIAL!r} or {OURS!r}, got '
      f'{about.get(ORIGIN)!r}.'
    )
  if not weights:
    raise ValueError('Expected weights, the target at least, got none.')
  numbers = [int(game[_GENERATION]) for game in played]
  if numbers != sorted(numbers):
    raise ValueError('Expected games by generation, the oldest first.')
  fields = [_fields(game) for game in played]
  fields = next((each for each in fields if each), {})
  for game in played:
    if _fields(game) not in ({}, fields):
      raise ValueError(f'Expected games of {fields}, got {_fields(game)}.')
  return {
    **about,
    'fields': fields,
    'generations': {n: numbers.count(n) for n in sorted(set(numbers))},
    'sha256': _digest(played),
  }


def _game_arrays(number: int, game: replay.Game) -> dict[str, np.ndarray]:
  return {
    _GENERATION: np.asarray(number, np.int32),
    _OUTCOME: np.asarray(game.end['winner'], np.int8),
    **game.rows,
  }


def _game(split, number: int, record, generation: int) -> replay.Game:
  rows = _arrays(split, number, record)
  found, outcome = rows.pop(_GENERATION, None), rows.pop(_OUTCOME, None)
  if outcome is None or found != generation:
    raise split.corrupt(
      number, f'expected a game of generation {generation}, got {found}'
    )
  return replay.Game(rows, {'winner': outcome[()]})


def _fields(game: Mapping[str, np.ndarray]) -> dict[str, list]:
  """dtype and shape of a position's fields; {} of a game without any."""
  return {
    name: [values.dtype.str, list(values.shape[1:])]
    for name, values in sorted(game.items())
    if name not in (_GENERATION, _OUTCOME)
  }


def _split(
  name: str, records: Sequence[Mapping[str, np.ndarray]]
) -> writer.Split:
  length = sum(
    values.nbytes for record in records for values in record.values()
  )
  shards = min(len(records), 1 + length // _SHARD_BYTES)
  return writer.Split(
    name, len(records), shards, lambda number: _example(records[number])
  )


def _example(named: Mapping[str, np.ndarray]) -> writer.Example:
  return {
    'name': list(named),
    'dtype': [values.dtype.str for values in named.values()],
    'shape': ['x'.join(map(str, v.shape)) for v in named.values()],
    'data': [values.tobytes() for values in named.values()],
  }


def _arrays(split, number: int, record) -> dict[str, np.ndarray]:
  try:
    return _unpacked(record)
  except ValueError as error:
    raise split.corrupt(number, error) from error


def _unpacked(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The arrays of a record by name; ValueError for anything else."""
  columns = [record[name].bytes_list.value for name in _FEATURES]
  found = {}
  try:
    for name, dtype, shape, data in zip(*columns, strict=True):
      sizes = [int(size) for size in shape.decode().split('x') if size]
      values = np.frombuffer(data, np.dtype(dtype.decode()))
      found[name.decode()] = values.reshape(sizes)
  except TypeError as error:  # no dtype
    raise ValueError(str(error)) from error
  if not found:
    raise ValueError('expected arrays by name, got none')
  return found


def _digest(records: Iterable[Mapping[str, np.ndarray]]) -> str:
  digest = hashlib.sha256()
  for record in records:
    for name, values in record.items():
      digest.update(f'{name} {values.dtype.str} {values.shape} '.encode())
      digest.update(np.ascontiguousarray(values))
  return digest.hexdigest()
