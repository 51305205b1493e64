"""Settings of self-play and of matches.

Defaults are the flags of mlcommons/training, retired_benchmarks/minigo/
tensorflow/minigo/ml_perf/flags/19, as they were when it was retired.
"""

import dataclasses

from models.minigo import go
from models.minigo.tree_search.trees import Settings as TreeSettings

_PLANES = {'mlperf07': go.mlperf07, 'agz': go.agz}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of games to learn from.

  Attributes:
    rules: rules of the game, including its limit of plies.
    tree: how a tree grows, and its capacity. Searches that exceed it are cut
      short, and counted.
    planes: input of the net, a name of `go.PLANES`.
    full_readouts: visits that a full search adds to the root. Its position is
      recorded, and its root gets noise.
    fast_readouts: visits that a fast search adds. It is not recorded and gets
      no noise.
    fast_share: probability of a fast search, from the second move on. If it is
      not 0, full searches start from an empty tree.
    resign_from: range from which the threshold of a game is drawn: a player
      resigns if the value of the position is below it.
    no_resign_share: share of games in which nobody resigns; they record who
      would have: the reference's disable_resign_pct.
    noise_alpha: parameter of the Dirichlet noise.
    early_plies: plies in which moves are drawn.
    prunes: prunes targets: removes visits that the final values do not justify.
    rounds: rounds of the search between two looks for finished searches. Fewer
      rounds leave fewer games idle, more rounds need fewer looks.
    looks: looks of a call, which is `looks * rounds` rounds.
  """

  rules: go.Rules
  tree: TreeSettings
  planes: str = 'mlperf07'
  full_readouts: int = 800
  fast_readouts: int = 80
  fast_share: float = 0.75
  resign_from: tuple[float, float] = (-1.0, -0.9)
  no_resign_share: float = 0.0
  noise_alpha: float = 0.03
  early_plies: int = 30
  prunes: bool = True
  rounds: int = 5
  looks: int = 20

  def __post_init__(self):
    _check_planes(self.planes)
    reads = min(self.full_readouts, self.fast_readouts)
    if min(reads, self.rounds, self.looks) < 1:
      raise ValueError(
        'Expected at least one readout, round and look, got '
        f'full_readouts={self.full_readouts}, '
        f'fast_readouts={self.fast_readouts}, rounds={self.rounds}, '
        f'looks={self.looks}.'
      )
    most = self.tree.most_reads
    if not max(self.full_readouts, self.fast_readouts) <= most < 2**16:
      raise ValueError(
        'Expected a tree with room for a search, and visits that 16 bits hold, '
        f'got room for {most} reads with full_readouts={self.full_readouts}, '
        f'fast_readouts={self.fast_readouts}.'
      )
    shares = {
      'fast_share': self.fast_share,
      'no_resign_share': self.no_resign_share,
    }
    for name, share in shares.items():
      if not 0 <= share <= 1:
        raise ValueError(f'Expected {name} in [0, 1], got {share}.')
    if self.resign_from[0] > self.resign_from[1] or self.noise_alpha <= 0:
      raise ValueError(
        'Expected an ascending resign_from and a noise_alpha above 0, got '
        f'{self.resign_from}, {self.noise_alpha}.'
      )

  @property
  def encode(self):
    """Function `(state, rules) -> planes` of one game."""
    return _PLANES[self.planes]

  @property
  def most_per_call(self) -> int:
    """Upper bound of the positions, and of the ends, of a place in one call.

    A full search needs `full_readouts` visits, a round adds at most `attempts`,
    the first search of a call may be almost done when it starts, every game
    starts with a full search, and a look plays at most one move.
    """
    attempts = self.tree.attempts or 2 * self.tree.leaves
    visits = self.looks * self.rounds * attempts
    return min(self.looks, 1 + visits // self.full_readouts)


@dataclasses.dataclass(frozen=True)
class MatchSettings:
  """Settings of a match: most visited moves, no noise, no resigning.

  Attributes:
    rules: rules of the game.
    tree: how the trees of both players grow.
    planes: input of nets, a name of `go.PLANES`.
    readouts: visits that a search adds to the root.
    other_readouts: visits of the second player's searches; None: `readouts`.
  """

  rules: go.Rules
  tree: TreeSettings
  planes: str = 'mlperf07'
  readouts: int = 100
  other_readouts: int | None = None

  def __post_init__(self):
    _check_planes(self.planes)
    for name in ('readouts', 'other_readouts'):
      reads = getattr(self, name)
      if reads is not None and not 1 <= reads <= self.tree.most_reads:
        raise ValueError(
          'Expected at least one readout and a tree with room for all, got '
          f'{name}={reads} and room for {self.tree.most_reads}.'
        )

  @property
  def encode(self):
    """Function `(state, rules) -> planes` of one game."""
    return _PLANES[self.planes]


def bootstrap(settings: Settings) -> Settings:
  """Settings of the games of a random net, which the first net learns from.

  As the reference has them, except that its random net draws a new answer for
  every position; here it is an untrained net.
  """
  return dataclasses.replace(
    settings,
    tree=dataclasses.replace(settings.tree, may_pass=False),
    full_readouts=80,
    fast_readouts=80,
    fast_share=0.0,
    resign_from=(-1.0, -0.99),
    prunes=False,
  )


def _check_planes(planes: str) -> None:
  if planes not in _PLANES:
    raise ValueError(f'Expected planes of {sorted(_PLANES)}, got {planes!r}.')
