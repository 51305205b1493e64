"""A match: two nets play each other, each as Black in every other game.

Each side searches with trees of its own, which it keeps through the moves of
both. Nothing is random but the symmetries under which the nets see positions.
"""

# N games of a match, H of them with the same colours, A actions.

import dataclasses

import jax
import jax.numpy as jnp

from models import go
from models.self_play import evaluation
from models.self_play.evaluation import Net
from models.self_play.settings import MatchSettings
from models.tree_search import moves, search, trees


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Results:
  """How games ended."""

  winner: jax.Array  # int32 [N], 1 the first net, -1 the second, 0 nobody
  plies: jax.Array  # int32 [N]


def match(
  first: Net, second: Net, keys: jax.Array, settings: MatchSettings
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


def _duel(nets: tuple[Net, Net], first_is_black, salts, settings):
  """Games to their end, salts uint32 [H, 2] of the nets; `bool []` colours."""
  rules, game = settings.rules, evaluation.go_game(settings.rules)
  states = evaluation.initial(salts.shape[0], rules)
  tree = trees.plant(states, game, settings.tree)
  asked = [
    evaluation.evaluator(net, salts[:, n], settings)
    for n, net in enumerate(nets)
  ]

  def move(carry):
    mover, other, of_first, going = carry
    mover, actions = _searched(
      mover,
      lambda states: jax.lax.cond(of_first, *asked, states),
      going,
      settings,
    )
    mover = trees.advance(mover, actions, game, going)
    other = trees.advance(other, actions, game, going)
    after = evaluation.settled(trees.root_states(mover), going, rules)
    going = going & ~jax.vmap(go.is_over)(after)
    return other, mover, ~of_first, going

  going = jnp.ones(salts.shape[0], bool)
  tree, *_ = jax.lax.while_loop(
    lambda carry: carry[-1].any(), move, (tree, tree, first_is_black, going)
  )
  last = trees.root_states(tree)
  black = evaluation.winners(last, jnp.ones_like(going), rules)
  return Results(jnp.where(first_is_black, black, -black), last.ply)


def _searched(tree, evaluate, going, settings: MatchSettings):
  """The tree after a search in the games `going`, and its moves int32 [H]."""
  game = evaluation.go_game(settings.rules)
  readouts = jnp.full(going.shape, settings.readouts, jnp.int32)
  tree = trees.aim(tree, readouts, settings.tree, games=going)
  tree = search.search(tree, game, evaluate, settings.tree)
  allowed = evaluation.allowed(trees.root_states(tree), settings.rules)
  return tree, moves.most_visited(moves.at_root(tree), allowed)
