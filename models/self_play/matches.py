"""A match: two players, each of whom is Black in every other game.

Each searches with trees of its own, which it keeps through the moves of both,
and differs from the other in how it values leaves, and how many. Nothing is
random but that: of a net, the symmetries under which it sees positions.
"""

# N games of a match, H of them with the same colours, A actions.

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from models import go
from models.self_play import evaluation
from models.self_play.evaluation import Net
from models.self_play.settings import MatchSettings
from models.tree_search import moves, search, trees

# A side, given a salt for each of its games, uint32 [H]: what values leaves.
Player = Callable[[jax.Array], search.Evaluate]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Results:
  """How games ended."""

  winner: jax.Array  # int32 [N], 1 the first player, -1 the second, 0 nobody
  plies: jax.Array  # int32 [N]


def of_net(net: Net, settings: MatchSettings) -> Player:
  """The player that asks a net."""
  return lambda salts: evaluation.evaluator(net, salts, settings)


def match(
  first: Player, second: Player, keys: jax.Array, settings: MatchSettings
) -> Results:
  """Games with keys [N]; `first` is Black in the even ones.

  Where the games are split over devices, each needs an even number of them.
  """
  if keys.shape[0] % 2:
    raise ValueError(
      'Expected an even number of games on each device, as many with either '
      f'colour; came {keys.shape[0]}.'
    )
  salts = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
  # The even games, then the odd ones: what plays them is compiled once.
  found = jax.lax.map(
    lambda half: _duel((first, second), *half, settings),
    (jnp.array([True, False]), jnp.stack([salts[0::2], salts[1::2]])),
  )
  return jax.tree.map(lambda halves: halves.T.reshape(-1), found)


def planted(games: int, settings: MatchSettings) -> trees.Tree:
  """A player's trees before the first move, of so many games."""
  rules = settings.rules
  states = evaluation.initial(games, rules)
  return trees.plant(states, evaluation.go_game(rules), settings.tree)


def searched(
  tree: trees.Tree,
  evaluate: search.Evaluate,
  readouts: jax.Array,
  games: jax.Array,
  settings: MatchSettings,
) -> tuple[trees.Tree, jax.Array]:
  """The tree after a search in `games` bool [H], and its moves int32 [H].

  `readouts` int32 [] are the visits that it adds to the roots. The move of a
  game that is not searched means nothing.
  """
  game = evaluation.go_game(settings.rules)
  readouts = jnp.broadcast_to(readouts[None], games.shape)
  tree = trees.aim(tree, readouts, settings.tree, games=games)
  tree = search.search(tree, game, evaluate, settings.tree)
  allowed = evaluation.allowed(trees.root_states(tree), settings.rules)
  return tree, moves.most_visited(moves.at_root(tree), allowed)


def moved(
  tree: trees.Tree,
  actions: jax.Array,
  games: jax.Array,
  settings: MatchSettings,
) -> tuple[trees.Tree, jax.Array]:
  """The tree after `actions` int32 [H], of either side, in `games` bool [H].

  Also those of the games that go on after them: bool [H].
  """
  rules = settings.rules
  tree = trees.advance(tree, actions, evaluation.go_game(rules), games)
  after = evaluation.settled(trees.root_states(tree), games, rules)
  return tree, games & ~jax.vmap(go.is_over)(after)


def _duel(players: tuple[Player, Player], first_is_black, salts, settings):
  """Games to their end, salts uint32 [H, 2] of the players; bool [] colours."""
  tree = planted(salts.shape[0], settings)
  asked = [player(salts[:, n]) for n, player in enumerate(players)]
  of_second = settings.other_readouts or settings.readouts

  def move(carry):
    mover, other, of_first, going = carry
    mover, actions = searched(
      mover,
      lambda states: jax.lax.cond(of_first, *asked, states),
      jnp.where(of_first, settings.readouts, of_second),
      going,
      settings,
    )
    mover, goes_on = moved(mover, actions, going, settings)
    other, _ = moved(other, actions, going, settings)
    return other, mover, ~of_first, goes_on

  going = jnp.ones(salts.shape[0], bool)
  tree, *_ = jax.lax.while_loop(
    lambda carry: carry[-1].any(), move, (tree, tree, first_is_black, going)
  )
  last = trees.root_states(tree)
  black = evaluation.winners(last, jnp.ones_like(going), settings.rules)
  return Results(jnp.where(first_is_black, black, -black), last.ply)
