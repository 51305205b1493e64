"""The replay window: games of recent generations in memory, batched anew.

It is numpy throughout and knows no game: a position is a row of each of some
fields. Of several hosts each keeps its own share of the games, those that its
devices played, and feeds its own share of every batch.

Games that were played before may be put in, and taken out again.

Bounds, with positions of r bytes and games of at most p of them: a window of g
generations of n games on h hosts holds at most g * n / h * p * r bytes on one,
and while a generation is closed one field of its games a second time. Beside
them, `OpenGames` holds at most p positions of every place. With Minigo on 19x19
a position is 1,314 bytes (planes 587, visits 724, ply 2, outcome 1), so with 5
generations of 8,192 games of 722 plies at most 38.9 GB; where a quarter of 250
plies is recorded, 3.4 GB.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import os
import zipfile

import numpy as np

Rows = Mapping[str, np.ndarray]

_LENGTHS = 'lengths'  # of games, beside the fields of a file

# What draws are for, so that none is made twice.
_OF_GAMES, _OF_POSITIONS, _OF_HOLDOUT = range(3)


@dataclasses.dataclass(frozen=True)
class Game:
  """A game that has ended."""

  rows: Rows  # its recorded positions in order, [n, ...]; n may be 0
  end: Mapping[str, np.generic]  # how it ended, by field


class OpenGames:
  """Recorded positions of games in progress, until each has ended.

  A place plays one game after the other, numbered from 0.
  """

  def __init__(self, *, places: int, most_positions: int):
    """Waits for games at `places`, of at most so many positions each."""
    self._open = [[] for _ in range(places)]
    self._game = np.zeros(places, np.int64)
    self._most = most_positions

  @property
  def positions(self) -> int:
    """How many positions wait."""
    return sum(map(len, self._open))

  def add(self, positions: Rows, ends: Rows) -> list[Game]:
    """Takes what a call recorded, and returns the games that it ended.

    Both hold, by field, arrays [places, K, ...] of which the first `count`
    [places] of each place are in use; `game` [places, K] says of which game
    they are. Raises ValueError where that is not what should come next.
    """
    positions, ends = dict(positions), dict(ends)
    counts, end_counts = positions.pop('count'), ends.pop('count')
    for counted in (counts, end_counts):
      if counted.shape != (len(self._open),):
        raise ValueError(
          f'Expected records of {len(self._open)} places; came counts of '
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
        f'Expected the end of game {self._game[place]} at place {place}; came '
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
        f'Expected positions of game {self._game[place]} at place {place}; '
        f'came some of game {min(others)}.'
      )
    self._open[place] += [
      {name: value.copy() for name, value in row.items()} for row in rows
    ]
    if len(self._open[place]) > self._most:
      raise ValueError(
        f'Expected at most {self._most} positions of a game; came '
        f'{len(self._open[place])} of game {self._game[place]} at place '
        f'{place}.'
      )


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How positions are drawn from the window.

  Attributes:
    generations: the window, counted back from the newest.
    games: of each generation, over all hosts; of more, so many by chance.
    share: each position is kept with this probability, drawn anew each time.
    symmetries: one of so many is drawn for each that is kept.
    holdout: each game that is played is left out with this probability.
  """

  generations: int = 5
  games: int = 8192
  share: float = 0.3
  symmetries: int = 8
  holdout: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Generation:
  """One that is closed."""

  number: int
  rows: Rows  # of all its games, one after the other
  lengths: Sequence[int]  # positions of each game


class Window:
  """The games of recent generations, of this host."""

  def __init__(
    self, sampling: Sampling, *, seed: int, host: int = 0, hosts: int = 1
  ):
    """All that is drawn follows from the seed, the generation and the host."""
    if not 0 <= host < hosts:
      raise ValueError(f'Expected a host of 0 to {hosts - 1}; came {host}.')
    if (
      not 0 < sampling.share <= 1
      or not 0 <= sampling.holdout < 1
      or min(sampling.generations, sampling.games // hosts, sampling.symmetries)
      < 1
    ):
      raise ValueError(
        'Expected a generation, a symmetry, a game on each host at least, a '
        'share in (0, 1] and a holdout in [0, 1); came '
        f'{sampling} on {hosts} hosts.'
      )
    self._sampling = sampling
    self._seed, self._host, self._hosts = seed, host, hosts
    self._games = len(range(host, sampling.games, hosts))
    self._closed: list[_Generation] = []
    self._begin()

  @property
  def missing(self) -> int:
    """Games that the next generation lacks on this host before it can close."""
    return self._games - len(self._kept)

  @property
  def seen(self) -> int:
    """Games of the next generation that came and were not held out."""
    return self._seen

  @property
  def newest(self) -> int | None:
    """The number of the last generation that was closed."""
    return self._closed[-1].number if self._closed else None

  @property
  def bytes(self) -> int:
    """Of the positions in memory."""
    games = [game.rows for game in self._kept]
    return sum(
      values.nbytes
      for rows in [*self._rows(), *games]
      for values in rows.values()
    )

  def add(self, game: Game, generation: int) -> None:
    """Adds a game to the next generation, whose number it is, or holds it out.

    Of those that come too many each is kept with the same chance, and the
    others are forgotten at once. The first one ends the oldest generation of a
    full window.
    """
    self._open(generation)
    if self._holdouts.random() >= self._sampling.holdout:
      self._take(game)

  def close(self) -> 'Sample':
    """Ends the generation, and draws what is trained on after it.

    The sample shares the window's memory; games that are added while it lives
    come on top.
    """
    self._end()
    return self.sample()

  def sample(self) -> 'Sample':
    """What is trained on after the newest generation; see `close`."""
    if self.newest is None:
      raise ValueError('Expected a closed generation to draw from; came none.')
    draws = self._rng(_OF_POSITIONS, self.newest)
    total = sum(map(_length, self._rows()))
    chosen = np.flatnonzero(draws.random(total) < self._sampling.share)
    draws.shuffle(chosen)
    symmetry = draws.integers(
      self._sampling.symmetries, size=len(chosen), dtype=np.int8
    )
    return Sample(tuple(self._rows()), chosen, symmetry)

  def restore(self, games: Iterable[tuple[int, Game]]) -> None:
    """Puts in closed generations: with each game the number of its own.

    As many games of each are kept as `add` keeps, of too many by chance, and as
    many generations. Raises ValueError for too few.
    """
    for number, game in games:
      if number != self._generation and self._seen:
        self._end()
      if self.newest is not None and number <= self.newest:
        raise ValueError(
          f'Expected generations that rise; came {number} after {self.newest}.'
        )
      self._open(number)
      self._take(game)
    if self._seen:
      self._end()

  def games(self) -> Iterator[tuple[int, Game]]:
    """The games of the closed generations, the oldest first, as for `restore`.

    They share the window's memory. Of one without positions the outcome is not
    known any more.
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
    """Writes the newest generation into a file of this host, whole or not.

    Files of generations that the window has forgotten are removed.
    """
    newest = self._closed[-1]
    os.makedirs(directory, exist_ok=True)
    path = self._kept_at(directory, newest.number)
    with open(f'{path}.partial', 'wb') as file:
      np.savez(file, **{_LENGTHS: newest.lengths}, **newest.rows)
      file.flush()
      os.fsync(file.fileno())
    os.replace(f'{path}.partial', path)
    stale = self._kept_at(directory, newest.number - self._sampling.generations)
    if os.path.exists(stale):
      os.remove(stale)

  def recall(self, directory: str, newest: int) -> None:
    """Puts in what `keep` wrote of the window whose newest one that was.

    What was restored before may reach into it. Raises ValueError where a file
    is missing or broken.
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
          f'Expected the games of generation {number} of this host in {path}; '
          f'came {type(error).__name__}. A run goes on with as many hosts as '
          'it began with.'
        ) from error
      lengths = rows.pop(_LENGTHS).tolist()
      self._closed.append(_Generation(number, rows, lengths))
      del self._closed[: -self._sampling.generations]

  def _kept_at(self, directory: str, generation: int) -> str:
    name = f'generation_{generation}_host_{self._host}_of_{self._hosts}.npz'
    return os.path.join(directory, name)

  def _open(self, generation: int) -> None:
    """Begins a generation with its first game."""
    if generation == self._generation:
      return
    if self._seen:
      raise ValueError(
        f'Expected a game of generation {self._generation}, which has not '
        f'been closed; came one of {generation}.'
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
        f'this host; came {len(self._kept)}.'
      )
    games = [dict(game.rows) for game in self._kept if game.rows]
    if not games:
      raise ValueError(
        f'Expected recorded positions; none of the {self._games} games of '
        f'generation {self._generation} has one.'
      )
    lengths = [_length(game.rows) if game.rows else 0 for game in self._kept]
    self._kept = []
    # Field by field, so that of no other there are two copies.
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
  """What is trained on after one generation, in order."""

  generations: Sequence[Rows]
  chosen: np.ndarray  # int64 [n], rows of the generations in a row
  symmetry: np.ndarray  # int8 [n]

  def steps(self, rows: int) -> int:
    """Whole batches of which this host has `rows` rows.

    Hosts differ in it by a little, by chance: they take the fewest that any
    has, so at most the difference of one host to the mean is dropped.
    """
    return len(self.chosen) // rows

  def batches(self, rows: int, steps: int, first: int = 0) -> Iterator[Rows]:
    """Yields this host's rows of so many batches, but for the `first` ones.

    What remains is dropped.
    """
    if not 0 <= steps <= self.steps(rows):
      raise ValueError(
        f'Expected at most {self.steps(rows)} batches of {rows} rows, which '
        f'{len(self.chosen)} positions make; came {steps}.'
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
