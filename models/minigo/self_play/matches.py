"""A match: two players, each of whom is Black in every other game.

Each player searches with trees of its own, which it keeps through the moves of
both. Players differ in how they value leaves, and how many. Nothing else is
random: for a net, the symmetries under which it sees positions.
"""

# N games of a match, A actions.

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from models.minigo.self_play import evaluation
from models.minigo.self_play.evaluation import Net
from models.minigo.self_play.settings import MatchSettings
from models.minigo.tree_search import moves, search, trees

# Maps salts of games, uint32 [N], to the function that values leaves.
Player = Callable[[jax.Array], search.Evaluate]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Results:
  """Outcomes of games."""

  winner: jax.Array  # int32 [N], 1 the first player, -1 the second, 0 nobody
  plies: jax.Array  # int32 [N]


def of_net(net: Net, settings: MatchSettings) -> Player:
  """Player that evaluates leaves by a net."""
  return lambda salts: evaluation.evaluator(net, salts, settings)


def match(
  first: Player, second: Player, keys: jax.Array, settings: MatchSettings
) -> Results:
  """Plays games with keys [N]; `first` is Black in the even ones.

  If games are split over devices, each device needs an even number of them.
  """
  if keys.shape[0] % 2:
    raise ValueError(
      'Expected an even number of games on each device, as many with either '
      f'colour, got {keys.shape[0]}.'
    )
  salts = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
  first_is_black = jnp.arange(keys.shape[0]) % 2 == 0
  last = _played((first, second), first_is_black, salts, settings)
  black = evaluation.go_game(settings.rules).value_at_end(last)
  return Results(jnp.where(first_is_black, black, -black), last.ply)


def planted(games: int, settings: MatchSettings) -> trees.Tree:
  """Trees of a player before the first move, for `games` games."""
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
  """Tree after a search in `games` bool [N], and its moves int32 [N].

  `readouts` int32 [] are the visits added to the roots. Moves of games that are
  not searched are meaningless.
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
  """Tree after `actions` int32 [N], of either player, in `games` bool [N].

  Also returns a mask of the games that continue: bool [N].
  """
  game = evaluation.go_game(settings.rules)
  tree = trees.advance(tree, actions, game, games)
  after = evaluation.settled(trees.root_states(tree), games, settings.rules)
  return tree, games & ~game.is_over(after)


def _played(players: tuple[Player, Player], first_is_black, salts, settings):
  """Final states of games, from the players' salts uint32 [N, 2].

  The players move in turns, each in all games at once. The second one moves
  first, in the games where it is Black; the other games stay a ply behind.
  """
  tree = planted(salts.shape[0], settings)
  asked = [player(salts[:, n]) for n, player in enumerate(players)]
  of_second = settings.other_readouts or settings.readouts

  def move(carry):
    mover, other, of_first, going, is_to_move = carry
    mover, actions = searched(
      mover,
      lambda states: jax.lax.cond(of_first, *asked, states),
      jnp.where(of_first, settings.readouts, of_second),
      is_to_move,
      settings,
    )
    mover, goes_on = moved(mover, actions, is_to_move, settings)
    other, _ = moved(other, actions, is_to_move, settings)
    going = jnp.where(is_to_move, goes_on, going)
    return other, mover, ~of_first, going, going

  going = jnp.ones_like(first_is_black)
  tree, *_ = jax.lax.while_loop(
    lambda carry: carry[3].any(),
    move,
    (tree, tree, jnp.bool_(False), going, ~first_is_black),
  )
  return trees.root_states(tree)
