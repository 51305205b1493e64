"""Games played on the clock, and batches sampled from them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from input_pipelines.self_play import replay
from input_pipelines.self_play import start as minigo_start
from models.minigo import go, self_play
from suite.benchmarks.minigo import GAMES_KEY, METRIC
from suite.benchmarks.minigo.hparams import Hparams
from suite.log_keys import MADE
from suite.metrics import mean
from suite.run import program
from suite.run.feed import Data, put_ahead

_GAMES, _MOVES, _READS, _PLIES, _RESIGNED, _BLACK, _SHORT = range(7)
_COUNTS = _SHORT + 1
# Keys of the position of a feed.
_GENERATION, _GIVEN, _STATISTICS = 'generation', 'batches', 'statistics'


class SelfPlayFeed:
  """Plays games with the state that it is given, and samples batches from them.

  Games in progress continue in the next generation. Games of the generations up
  to that of the start are read instead of played. If checkpoints are saved, the
  games of each generation are kept beside them.
  """

  def __init__(self, hp: Hparams, settings: self_play.Settings, data: Data):
    self._hp = hp
    self._clock = data.clock
    self._put = data.put
    self._rows = hp.train_batch_size // data.hosts
    self._places = hp.concurrent_games // data.hosts
    self._eval_share = (data.host, data.hosts)
    self._window = replay.Window(
      replay.Sampling(
        generations=hp.window_generations,
        games=hp.min_selfplay_games_per_generation,
        share=hp.example_share,
        holdout=hp.holdout_pct,
      ),
      seed=data.seed,
      host=data.host,
      hosts=data.hosts,
    )
    self._open = replay.OpenGames(
      places=self._places, most_positions=settings.rules.max_plies
    )
    self._games: Any = None  # in progress, on the devices
    self._ahead: Any = None  # played beyond the last generation
    self._statistics: dict[str, float] = {}
    if hp.start_generation:
      wanted = given_generations(hp)
      self._window.restore(
        minigo_start.games(
          data.directory, data.host, data.hosts, generations=wanted
        )
      )
    self._kept = data.kept
    # Position of the run that is resumed: its newest games, and its batches.
    self._begun = data.position or {}
    if self._begun:
      self._window.recall(data.kept, self._begun[_GENERATION])
    self._given = 0  # batches of this block so far

  def train_block(self, block, state, maker) -> Iterator[Any]:
    """See Feed."""
    generation = block.at['epoch_num']
    with self._clock.spent_on('self-play'):
      sample = self._sample(generation - 1, state, maker)
      steps = -maker.most(-sample.steps(self._rows))
    if not steps:
      raise ValueError(
        f'Expected positions for a batch of {self._rows} on each host, got '
        f'{len(sample.chosen)} in {len(sample.generations)} generations.'
      )
    batches = sample.batches(self._rows, steps, self._given)
    for batch in put_ahead(map(self._weighted, batches), self._put, 2):
      self._given += 1
      yield batch

  def statistics(self) -> Mapping[str, float]:
    """See Feed."""
    return self._statistics

  def eval_batches(self) -> Iterator[Any]:
    """Yields the numbers of the match's games; padding has weight 0."""
    size, games = self._hp.eval_batch_size, self._hp.eval_games
    host, hosts = self._eval_share
    each = size // hosts
    for first in range(0, games, size):
      numbers = first + host * each + np.arange(each, dtype=np.int32)
      yield self._put(
        {'game': numbers, 'weight': (numbers < games).astype(np.float32)}
      )

  def score(self, predictions, maker):
    """Share of all games of the match that were won; see Feed."""
    del maker
    rate = mean.over_examples(
      predictions,
      'wins',
      'games',
      examples=self._hp.eval_games,
      what='games of the match',
    )
    return {METRIC: rate}

  def position(self) -> Mapping[str, Any]:
    """See Feed; games in progress are not saved, but started again."""
    return {
      _GENERATION: self._window.newest,
      _GIVEN: self._given,
      _STATISTICS: self._statistics,
    }

  def close(self) -> None:
    """See Feed."""

  def games(self) -> Iterator[tuple[int, replay.Game]]:
    """Games in the window of this host, by generation; see `Window.games`."""
    return self._window.games()

  @property
  def missing(self) -> int:
    """Number of games that the next generation still needs on this host."""
    return self._window.missing

  def _sample(self, generation: int, state, maker) -> replay.Sample:
    """Sample after the games of a generation, which are played if needed."""
    begun, self._begun = self._begun, {}
    if self._window.newest == generation:
      self._given = begun.get(_GIVEN, 0)
      self._statistics = begun.get(_STATISTICS, {})
      return self._window.sample()
    self._given, self._statistics = 0, {}
    self._play(generation, state, maker)
    sample = self._window.close()
    if self._kept:
      self._window.keep(self._kept)
    return sample

  def _play(self, generation: int, state, maker) -> None:
    """Plays until each host has its share of the games of a generation."""
    name = 'play'
    if not generation and self._hp.bootstraps:
      name = 'bootstrap'
    began = self._clock.timed
    counts = np.zeros(_COUNTS, np.int64)
    if self._games is None:
      self._games = maker.call('begin', state, {})
    while maker.most(self._window.missing) > 0:
      played = self._ahead
      # The devices play while the host stores what they played before.
      self._games, self._ahead = maker.call(name, state, self._games)
      if played is not None:
        self._take(program.host_rows(played), generation, counts)
    self._statistics = _described(
      maker.total(counts), self._clock.timed - began
    )

  def _take(self, played, generation: int, counts: np.ndarray) -> None:
    games = self._open.add(vars(played.positions), vars(played.ends))
    for game in games:
      self._window.add(game, generation)
      counts[_GAMES] += 1
      counts[_PLIES] += game.end['plies']
      counts[_RESIGNED] += game.end['resigned']
      counts[_BLACK] += game.end['winner'] == go.BLACK
    for column, each in (
      (_MOVES, played.tally.moves),
      (_READS, played.tally.reads),
      (_SHORT, played.tally.short),
    ):
      counts[column] += int(each.sum())

  def _weighted(self, rows: replay.Rows) -> replay.Rows:
    return {**rows, 'weight': np.ones(self._rows, np.float32)}


def given_generations(hp: Hparams) -> range:
  """Generations of the games that a run starts with."""
  newest = hp.start_generation
  return range(max(0, newest - hp.window_generations + 1), newest + 1)


def _described(total: np.ndarray, seconds: float) -> dict[str, float]:
  """Statistics of the games of a generation, by log key."""
  games = max(1, int(total[_GAMES]))
  return {
    GAMES_KEY: int(total[_GAMES]),
    MADE + 'seconds': round(seconds, 3),
    MADE + 'moves_per_second': float(total[_MOVES] / seconds),
    MADE + 'reads_per_second': float(total[_READS] / seconds),
    MADE + 'game_length': float(total[_PLIES] / games),
    MADE + 'resigned': float(total[_RESIGNED] / games),
    MADE + 'black_wins': float(total[_BLACK] / games),
    MADE + 'short_searches': int(total[_SHORT]),
  }
