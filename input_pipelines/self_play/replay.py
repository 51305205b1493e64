"""Replay window: games of recent generations in memory, sampled for training.

It is numpy throughout and independent of the game: a position is a row of each
of its fields. Each host keeps its own share of the games, those that its
devices played, and feeds its own share of every batch.

Games of earlier runs can be restored, and read out again.

Memory, with positions of r bytes and p of them in a game: a window of g
generations of n games on h hosts takes g * n / h * p * r bytes on each, and
while a generation is closed one field of its games twice. `OpenGames` adds up
to p positions for every place. With MiniGo on 19x19 a position takes 1,314
bytes (planes 587, visits 724, ply 2, outcome 1), so 5 generations of 8,192
games take 3.4 GB if a quarter of 250 plies is recorded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import os
import zipfile

import numpy as np

from input_pipelines.writing import files

Rows = Mapping[str, np.ndarray]

_LENGTHS = 'lengths'  # of games, stored beside the fields

# Purposes of random draws, so that no two use the same stream.
_OF_GAMES, _OF_POSITIONS, _OF_HOLDOUT = range(3)


@dataclasses.dataclass(frozen=True)
class Game:
  """Game that has ended."""

  rows: Rows  # its recorded positions in order, [n, ...]; n may be 0
  end: Mapping[str, np.generic]  # its end, by field


class OpenGames:
  """Recorded positions of games in progress, until they end.

  A place plays one game after another, numbered from 0.
  """

  def __init__(self, *, places: int, most_positions: int):
    """Starts without games; each has at most `most_positions`."""
    self._open = [[] for _ in range(places)]
    self._game = np.zeros(places, np.int64)
    self._most = most_positions

  @property
  def positions(self) -> int:
    """Number of positions that wait."""
    return sum(map(len, self._open))

  def add(self, positions: Rows, ends: Rows) -> list[Game]:
    """Adds the records of a call, and returns the games that it ended.

    Both hold, by field, arrays [places, K, ...] of which the first `count`
    [places] at each place are in use; `game` [places, K] is the number of their
    game. Raises ValueError if games are out of order.
    """
    positions, ends = dict(positions), dict(ends)
    counts, end_counts = positions.pop('count'), ends.pop('count')
    for counted in (counts, end_counts):
      if counted.shape != (len(self._open),):
        raise ValueError(
          f'Expected records of {len(self._open)} places, got counts of '
          f'shape {counted.shape}.'
        )
    games = []
    for place in np.flatnonzero(counts + end_counts):
      rows = [
        {name: values[place, at] for name, values in positions.items()}
        for at in range(counts[place])
      ]
      for at in range(end_counts[place]):
        end = {name: values[place, at] for name, values in ends.items()}
        game = self._game[place]
        own = [row for row in rows if row['game'] == game]
        rows = rows[len(own) :]
        games.append(self._ended(place, own, end))
      self._append(place, rows)
    return games

  def _ended(self, place: int, rows: list[Rows], end: Rows) -> Game:
    if end['game'] != self._game[place]:
      raise ValueError(
        f'Expected the end of game {self._game[place]} at place {place}, got '
        f'that of game {end["game"]}.'
      )
    self._append(place, rows)
    rows, self._open[place] = self._open[place], []
    self._game[place] += 1
    fields = rows[0].keys() - {'game'} if rows else ()
    stacked = {name: np.stack([row[name] for row in rows]) for name in fields}
    return Game(stacked, end)

  def _append(self, place: int, rows: list[Rows]) -> None:
    others = {int(row['game']) for row in rows} - {int(self._game[place])}
    if others:
      raise ValueError(
        f'Expected positions of game {self._game[place]} at place {place}, '
        f'got some of game {min(others)}.'
      )
    self._open[place] += [
      {name: value.copy() for name, value in row.items()} for row in rows
    ]
    if len(self._open[place]) > self._most:
      raise ValueError(
        f'Expected at most {self._most} positions of a game, got '
        f'{len(self._open[place])} of game {self._game[place]} at place '
        f'{place}.'
      )


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Settings of the window, and of sampling from it.

  Attributes:
    generations: size of the window.
    games: games of each generation, over all hosts; if there are more, a random
      subset.
    share: probability of each position to be sampled, drawn again each time.
    symmetries: number of symmetries, of which each sample gets a random one.
    holdout: probability of each game to be left out.
  """

  generations: int = 5
  games: int = 8192
  share: float = 0.3
  symmetries: int = 8
  holdout: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Generation:
  """Closed generation."""

  number: int
  rows: Rows  # of all its games, one after the other
  lengths: Sequence[int]  # positions of each game


class Window:
  """Games of recent generations on this host."""

  def __init__(
    self, sampling: Sampling, *, seed: int, host: int = 0, hosts: int = 1
  ):
    """Random draws depend on the seed, the generation and the host alone."""
    if not 0 <= host < hosts:
      raise ValueError(f'Expected a host of 0 to {hosts - 1}, got {host}.')
    if (
      not 0 < sampling.share <= 1
      or not 0 <= sampling.holdout < 1
      or min(sampling.generations, sampling.games // hosts, sampling.symmetries)
      < 1
    ):
      raise ValueError(
        'Expected a generation, a symmetry, a game on each host at least, a '
        'share in (0, 1] and a holdout in [0, 1), got '
        f'{sampling} on {hosts} hosts.'
      )
    self._sampling = sampling
    self._seed, self._host, self._hosts = seed, host, hosts
    self._games = len(range(host, sampling.games, hosts))
    self._closed: list[_Generation] = []
    self._begin()

  @property
  def missing(self) -> int:
    """Number of games that the next generation still needs on this host."""
    return self._games - len(self._kept)

  @property
  def seen(self) -> int:
    """Number of games added to the next generation, without those held out."""
    return self._seen

  @property
  def newest(self) -> int | None:
    """Number of the newest closed generation."""
    return self._closed[-1].number if self._closed else None

  @property
  def bytes(self) -> int:
    """Bytes of the positions in memory."""
    games = [game.rows for game in self._kept]
    return sum(
      values.nbytes
      for rows in [*self._rows(), *games]
      for values in rows.values()
    )

  def add(self, game: Game, generation: int) -> None:
    """Adds a game to the next generation, of that number, or holds it out.

    Of more games than needed each is kept with the same probability, and the
    others are dropped at once. The first game drops the oldest generation of a
    full window.
    """
    self._open(generation)
    if self._holdouts.random() >= self._sampling.holdout:
      self._take(game)

  def close(self) -> 'Sample':
    """Closes the generation, and samples the positions to train on.

    The sample shares the memory of the window; games that are added while it
    exists need memory of their own.
    """
    self._end()
    return self.sample()

  def sample(self) -> 'Sample':
    """Samples the positions to train on after the newest generation."""
    if self.newest is None:
      raise ValueError('Expected a closed generation to sample, got none.')
    draws = self._rng(_OF_POSITIONS, self.newest)
    total = sum(map(_length, self._rows()))
    chosen = np.flatnonzero(draws.random(total) < self._sampling.share)
    draws.shuffle(chosen)
    symmetry = draws.integers(
      self._sampling.symmetries, size=len(chosen), dtype=np.int8
    )
    return Sample(tuple(self._rows()), chosen, symmetry)

  def restore(self, games: Iterable[tuple[int, Game]]) -> None:
    """Restores closed generations from games with the number of each.

    Keeps as many games of each as `add` does, and as many generations. Raises
    ValueError if there are too few games.
    """
    for number, game in games:
      if number != self._generation and self._seen:
        self._end()
      if self.newest is not None and number <= self.newest:
        raise ValueError(
          f'Expected rising generations, got {number} after {self.newest}.'
        )
      self._open(number)
      self._take(game)
    if self._seen:
      self._end()

  def games(self) -> Iterator[tuple[int, Game]]:
    """Games of the closed generations, oldest first, as `restore` takes them.

    They share the memory of the window. Games without positions have lost their
    outcome.
    """
    for generation in self._closed:
      first = 0
      for length in generation.lengths:
        rows = {
          name: values[first : first + length]
          for name, values in generation.rows.items()
        }
        outcome = rows.pop('outcome')
        first += length
        yield (
          generation.number,
          Game(rows, {'winner': outcome[0]})
          if length
          else Game({}, {'winner': np.int8(0)}),
        )

  def keep(self, directory: str) -> None:
    """Writes the newest generation into a file of this host, atomically.

    Files of generations that the window has dropped are removed.
    """
    newest = self._closed[-1]
    os.makedirs(directory, exist_ok=True)
    path = self._kept_at(directory, newest.number)
    with files.replacing(path) as file:
      np.savez(file, **{_LENGTHS: newest.lengths}, **newest.rows)
    stale = self._kept_at(directory, newest.number - self._sampling.generations)
    if os.path.exists(stale):
      os.remove(stale)

  def recall(self, directory: str, newest: int) -> None:
    """Restores what `keep` wrote, up to generation `newest`.

    Generations that were restored before are not read again. Raises ValueError
    if a file is missing or damaged.
    """
    first = max(0, newest - self._sampling.generations + 1)
    if self.newest is not None:
      first = max(first, self.newest + 1)
    for number in range(first, newest + 1):
      path = self._kept_at(directory, number)
      try:
        with np.load(path) as file:
          rows = {name: file[name] for name in sorted(file.files)}
      except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
          f'Expected the games of generation {number} of this host in {path}, '
          f'got {type(error).__name__}. A run resumes with as many hosts as it '
          'started with.'
        ) from error
      lengths = rows.pop(_LENGTHS).tolist()
      self._closed.append(_Generation(number, rows, lengths))
      del self._closed[: -self._sampling.generations]

  def _kept_at(self, directory: str, generation: int) -> str:
    name = f'generation_{generation}_host_{self._host}_of_{self._hosts}.npz'
    return os.path.join(directory, name)

  def _open(self, generation: int) -> None:
    """Starts a generation with its first game."""
    if generation == self._generation:
      return
    if self._seen:
      raise ValueError(
        f'Expected a game of generation {self._generation}, which has not '
        f'been closed, got one of {generation}.'
      )
    self._generation = generation
    self._draws = self._rng(_OF_GAMES, generation)
    self._holdouts = self._rng(_OF_HOLDOUT, generation)
    del self._closed[: -self._sampling.generations + 1 or None]

  def _take(self, game: Game) -> None:
    rows = {**game.rows}
    if rows:
      count = _length(rows)
      rows['outcome'] = np.full(count, game.end['winner'], np.int8)
    self._seen += 1
    if self.missing:
      self._kept.append(Game(rows, game.end))
      return
    place = self._draws.integers(self._seen)
    if place < self._games:
      self._kept[place] = Game(rows, game.end)

  def _end(self) -> None:
    if self.missing:
      raise ValueError(
        f'Expected {self._games} games of generation {self._generation} on '
        f'this host, got {len(self._kept)}.'
      )
    games = [dict(game.rows) for game in self._kept if game.rows]
    if not games:
      raise ValueError(
        f'Expected recorded positions, got none in the {self._games} games of '
        f'generation {self._generation}.'
      )
    lengths = [_length(game.rows) if game.rows else 0 for game in self._kept]
    self._kept = []
    # Field by field, so that no more than one field exists twice.
    rows = {
      name: np.concatenate([game.pop(name) for game in games])
      for name in sorted(games[0])
    }
    self._closed.append(_Generation(self._generation, rows, lengths))
    self._begin()

  def _rows(self) -> list[Rows]:
    return [generation.rows for generation in self._closed]

  def _begin(self) -> None:
    self._kept: list[Game] = []
    self._seen = 0
    self._generation: int | None = None

  def _rng(self, purpose: int, generation: int) -> np.random.Generator:
    return np.random.default_rng([self._seed, generation, self._host, purpose])


@dataclasses.dataclass(frozen=True)
class Sample:
  """Positions to train on after a generation, in order."""

  generations: Sequence[Rows]
  chosen: np.ndarray  # int64 [n], rows of the generations in a row
  symmetry: np.ndarray  # int8 [n]

  def steps(self, rows: int) -> int:
    """Number of full batches, with `rows` rows on this host.

    Hosts differ slightly, by chance. All take the smallest number of any host.
    """
    return len(self.chosen) // rows

  def batches(self, rows: int, steps: int, first: int = 0) -> Iterator[Rows]:
    """Yields this host's rows of `steps` batches, without the `first` ones.

    The remaining positions are dropped.
    """
    if not 0 <= steps <= self.steps(rows):
      raise ValueError(
        f'Expected at most {self.steps(rows)} batches of {rows} rows from '
        f'{len(self.chosen)} positions, got {steps}.'
      )
    for start in range(first * rows, steps * rows, rows):
      batch = self._rows(self.chosen[start : start + rows])
      batch['symmetry'] = self.symmetry[start : start + rows]
      yield batch

  def _rows(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
    ends = np.cumsum([_length(rows) for rows in self.generations])
    of = np.searchsorted(ends, chosen, side='right')
    found = {
      name: np.empty((len(chosen), *values.shape[1:]), values.dtype)
      for name, values in self.generations[0].items()
    }
    for number, rows in enumerate(self.generations):
      here = of == number
      at = chosen[here] - (ends[number] - _length(rows))
      for name, values in rows.items():
        found[name][here] = values[at]
    return found


def _length(rows: Rows) -> int:
  return len(next(iter(rows.values())))
