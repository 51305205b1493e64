"""The numbers of self-play and of matches, and those of the two board sizes.

From mlcommons/training, retired_benchmarks/minigo/tensorflow/minigo: flags of
ml_perf/flags/19 and /9 as they were when the benchmark was retired.
"""

import dataclasses

from models.minigo import go
from models.minigo.tree_search.trees import Settings as TreeSettings

_PLANES = {'mlperf07': go.mlperf07, 'agz': go.agz}


@dataclasses.dataclass(frozen=True)
class Settings:
  """How games are played that a net shall learn from.

  Attributes:
    rules: of the game; they also hold the most plies of one.
    tree: how a tree grows, and its room. A game that it is too small for reads
      less, which is counted.
    planes: what the net sees, a name of `go.PLANES`.
    full_readouts: visits that a full search adds to the root. Its position is
      recorded, and its root has noise.
    fast_readouts: the same of a fast search, which is neither.
    fast_share: how often a search is fast, from the second move on. If it ever
      is, a full one starts from an empty tree.
    resign_from: the two ends of where a game's threshold is drawn: who is to
      play resigns if the value is below it.
    no_resign_share: games that are played on, and only say who would have
      resigned: the reference's disable_resign_pct.
    noise_alpha: of the Dirichlet noise.
    early_plies: in which moves are drawn; None: as the reference derives it.
    prunes: whether targets lose the visits that the final values did not want.
    rounds: rounds of the search between two looks at who is done. Few leave
      fewer games idle, many look less often.
    looks: how often a call looks. A call is `looks * rounds` rounds.
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
  early_plies: int | None = None
  prunes: bool = True
  rounds: int = 5
  looks: int = 20

  def __post_init__(self):
    if self.early_plies is None:
      early = self.rules.size**2 // 12 // 2 * 2
      object.__setattr__(self, 'early_plies', early)
    _check_board(self.rules, self.planes)
    reads = min(self.full_readouts, self.fast_readouts)
    if min(reads, self.rounds, self.looks) < 1:
      raise ValueError(
        'Expected at least one readout, round and look; came '
        f'full_readouts={self.full_readouts}, '
        f'fast_readouts={self.fast_readouts}, rounds={self.rounds}, '
        f'looks={self.looks}.'
      )
    most = self.tree.most_reads
    if not max(self.full_readouts, self.fast_readouts) <= most < 2**16:
      raise ValueError(
        'Expected a tree with room for a search, and visits that 16 bits hold; '
        f'came room for {most} reads with full_readouts={self.full_readouts}, '
        f'fast_readouts={self.fast_readouts}.'
      )
    shares = {
      'fast_share': self.fast_share,
      'no_resign_share': self.no_resign_share,
    }
    for name, share in shares.items():
      if not 0 <= share <= 1:
        raise ValueError(f'Expected {name} in [0, 1]; came {share}.')
    if self.resign_from[0] > self.resign_from[1] or self.noise_alpha <= 0:
      raise ValueError(
        'Expected resign_from to rise and noise_alpha above 0; came '
        f'{self.resign_from}, {self.noise_alpha}.'
      )

  @property
  def encode(self):
    """`(state, rules) -> planes` of one game."""
    return _PLANES[self.planes]

  @property
  def most_per_call(self) -> int:
    """The most positions of a game's place that a call can record, or ends.

    A full search adds `full_readouts` visits, none of them for nothing, and a
    round at most `attempts`. The first one of a call may have been near its
    end. Each game begins with a full search. And a look is one move.
    """
    attempts = self.tree.attempts or 2 * self.tree.leaves
    visits = self.looks * self.rounds * attempts
    return min(self.looks, 1 + visits // self.full_readouts)


@dataclasses.dataclass(frozen=True)
class MatchSettings:
  """How two play each other: the most visited move, no noise, no resign.

  Attributes:
    rules: of the game.
    tree: how each side's trees grow.
    planes: what nets see.
    readouts: visits that a search adds to the root.
    other_readouts: the same of the second player; None: as many.
  """

  rules: go.Rules
  tree: TreeSettings
  planes: str = 'mlperf07'
  readouts: int = 100
  other_readouts: int | None = None

  def __post_init__(self):
    _check_board(self.rules, self.planes)
    for name in ('readouts', 'other_readouts'):
      reads = getattr(self, name)
      if reads is not None and not 1 <= reads <= self.tree.most_reads:
        raise ValueError(
          'Expected at least one readout and a tree with room for all; came '
          f'{name}={reads} and room for {self.tree.most_reads}.'
        )

  @property
  def encode(self):
    """`(state, rules) -> planes` of one game."""
    return _PLANES[self.planes]


def bootstrap(settings: Settings) -> Settings:
  """Games of a random net, from which the reference makes its first one."""
  return dataclasses.replace(
    settings,
    tree=dataclasses.replace(settings.tree, may_pass=False),
    full_readouts=80,
    fast_readouts=80,
    fast_share=0.0,
    resign_from=(-1.0, -0.99),
    prunes=False,
  )


def _check_board(rules: go.Rules, planes: str) -> None:
  if planes not in _PLANES:
    raise ValueError(f'Expected planes of {sorted(_PLANES)}; came {planes!r}.')
  if rules.max_plies >= 2**15:
    raise ValueError(
      f'Expected plies that 16 bits hold; came max_plies={rules.max_plies}.'
    )


# Room for twice a full search: a target is what the root had, and readouts.
BOARD_19 = Settings(
  rules=go.Rules(19),
  tree=TreeSettings(capacity=1603, leaves=4),
)
# No fast moves and no resigning; the reference also holds 2.5 % of the games
# out of training, which is left to who takes them.
BOARD_9 = Settings(
  rules=go.Rules(9),
  tree=TreeSettings(capacity=481, leaves=2),
  full_readouts=240,
  fast_readouts=240,
  fast_share=0.0,
  resign_from=(-1.0, -0.8),
  no_resign_share=1.0,
  noise_alpha=0.135,
)
