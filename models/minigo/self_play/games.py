"""Self-play: many games at once on each device, each at its own pace.

A call continues the games of the previous one. It consists of looks: some
rounds of the search for all games, then a move in those whose search is done. A
game that ends is replaced by a new one at once.

Random draws of a game depend only on the key of its place, its number there and
its ply, and games are independent of each other. So results do not depend on
how places are split over devices, nor on how looks are split over calls.

Positions do not wait on the device for the end of their game: they are handed
to the host, which joins them with the outcome. `Settings.most_per_call` bounds
the number of a call.
"""

# B places of games, A actions, the last is a pass.

import dataclasses

import jax
import jax.numpy as jnp

from models.minigo import go
from models.minigo.self_play import evaluation, records
from models.minigo.self_play.evaluation import Net
from models.minigo.self_play.settings import Settings
from models.minigo.tree_search import arrays, formulas, moves, search, trees


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Games:
  """Games in progress, one at each place."""

  tree: trees.Tree  # of Go states
  place_key: jax.Array  # keys [B], that of all games at a place
  number: jax.Array  # int32 [B], earlier games at this place
  key: jax.Array  # keys [B], of the game; that of a ply is `fold_in(key, ply)`
  salt: jax.Array  # uint32 [B], decides its symmetries
  threshold: jax.Array  # float32 [B], below which a player resigns
  resigns: jax.Array  # bool [B], resigning is enabled
  despaired: jax.Array  # int32 [B], the first player below it; 0: nobody
  is_full: jax.Array  # bool [B], the current search is a full one


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
  """Counts of a call at each place: int32 [B]."""

  moves: jax.Array
  full_moves: jax.Array  # whose positions were recorded
  reads: jax.Array  # visits of the roots; most needed the net
  short: jax.Array  # searches cut short for lack of room in the tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Played:
  """Results of a call, for the host."""

  positions: records.Positions
  ends: records.Ends
  tally: Tally


def begin(place_keys: jax.Array, settings: Settings) -> Games:
  """Empty boards at places with keys [B], made by `keys_of`."""
  places = place_keys.shape[0]
  states = evaluation.initial(places, settings.rules)
  game = evaluation.go_game(settings.rules)
  number = jnp.zeros(places, jnp.int32)
  key, salt, threshold, resigns = _drawn(place_keys, number, settings)
  games = Games(
    tree=trees.plant(states, game, settings.tree),
    place_key=place_keys,
    number=number,
    key=key,
    salt=salt,
    threshold=threshold,
    resigns=resigns,
    despaired=jnp.zeros(places, jnp.int32),
    is_full=jnp.ones(places, bool),
  )
  every = jnp.ones(places, bool)
  return _aimed(games, every, every, settings)[0]


def play(net: Net, games: Games, settings: Settings) -> tuple[Games, Played]:
  """Plays `looks * rounds` rounds of the search, and the moves they lead to.

  The net evaluates `looks * rounds * leaves` states of each place, needed or
  not; `Tally.reads` counts the visits.
  """
  places = games.number.shape[0]
  zeros = jnp.zeros(places, jnp.int32)
  played = Played(
    *records.none(places, settings), Tally(zeros, zeros, zeros, zeros)
  )

  def look(carry, _):
    games, played = carry
    games, reads = _searched(net, games, settings)
    games, played = _moved(games, played, settings)
    tally = dataclasses.replace(played.tally, reads=played.tally.reads + reads)
    return (games, dataclasses.replace(played, tally=tally)), ()

  carry, _ = jax.lax.scan(look, (games, played), length=settings.looks)
  return carry


def _searched(net: Net, games: Games, settings: Settings):
  """Games after some rounds, and the visits added to roots: int32 [B]."""
  game = evaluation.go_game(settings.rules)
  evaluate = evaluation.evaluator(net, games.salt, settings)
  tree = jax.lax.fori_loop(
    0,
    settings.rounds,
    lambda _, tree: search.grow(tree, game, evaluate, settings.tree),
    games.tree,
  )
  reads = _visits(tree) - _visits(games.tree)
  return dataclasses.replace(games, tree=tree), reads


def _moved(games: Games, played: Played, settings: Settings):
  """Moves, or ends, the games whose search is done; starts the next search."""
  rules, game = settings.rules, evaluation.go_game(settings.rules)
  done = trees.is_done(games.tree)
  before = trees.root_states(games.tree)
  root = moves.at_root(games.tree)
  falls = done & moves.resigns(root, games.threshold)
  games = dataclasses.replace(
    games,
    despaired=jnp.where(
      falls & (games.despaired == 0), before.to_play, games.despaired
    ),
  )
  resigned = falls & games.resigns
  moved = done & ~resigned

  early = before.ply < settings.early_plies
  allowed = evaluation.allowed(before, rules)
  pick = _split(games, before)[:, 0]
  actions = _chosen(pick, root, early, allowed)
  recorded = moved & games.is_full
  positions = records.put(
    played.positions,
    recorded,
    **_position(before, root, allowed, settings),
    game=games.number,
  )
  tree = trees.advance(games.tree, actions, game, moved)
  after = evaluation.settled(trees.root_states(tree), moved, rules)
  counted = moved & game.is_over(after)
  ended = counted | resigned
  ends = records.put(
    played.ends,
    ended,
    game=games.number,
    winner=jnp.where(
      resigned, -before.to_play, evaluation.winners(after, counted, rules)
    ),
    plies=before.ply + moved,
    resigned=resigned,
    despaired=games.despaired,
  )
  games = _renewed(dataclasses.replace(games, tree=tree), ended, settings)
  games, short = _aimed(games, done, ended, settings)
  tally = dataclasses.replace(
    played.tally,
    moves=played.tally.moves + moved,
    full_moves=played.tally.full_moves + recorded,
    short=played.tally.short + short,
  )
  return games, Played(positions, ends, tally)


def _position(states: go.State, root: moves.Root, allowed, settings: Settings):
  """Fields recorded of states [B] and their searches."""
  visits = moves.pruned(root, allowed) if settings.prunes else root.visits
  planes = jax.vmap(lambda state: settings.encode(state, settings.rules))(
    states
  )
  return {
    'planes': records.packed(planes),
    'visits': visits,
    'ply': states.ply,
  }


def _renewed(games: Games, ended: jax.Array, settings: Settings) -> Games:
  """New games, without their trees, at places where one `ended` bool [B]."""
  number = games.number + ended
  # Draws depend on the number alone, so all others keep theirs.
  key, salt, threshold, resigns = _drawn(games.place_key, number, settings)
  return dataclasses.replace(
    games,
    number=number,
    key=key,
    salt=salt,
    threshold=threshold,
    resigns=resigns,
    despaired=jnp.where(ended, 0, games.despaired),
  )


def _drawn(place_keys: jax.Array, number: jax.Array, settings: Settings):
  """Draws key, salt, threshold and `resigns` of games [B]."""
  keys = jax.vmap(jax.random.fold_in)(place_keys, number)
  low, high = settings.resign_from

  def draw(key):
    # No move is played at this ply.
    key = jax.random.fold_in(key, settings.rules.max_plies)
    of_salt, of_threshold, of_resigning = jax.random.split(key, 3)
    threshold = jax.random.uniform(of_threshold, minval=low, maxval=high)
    plays_on = jax.random.uniform(of_resigning) < settings.no_resign_share
    return jax.random.bits(of_salt, (), jnp.uint32), threshold, ~plays_on

  return keys, *jax.vmap(draw)(keys)


def _aimed(games: Games, which, is_new, settings: Settings):
  """Starts a search, fast or full, in the games `which` bool [B].

  Games in `is_new` bool [B] do not have their trees yet. Returns the games, and
  a mask of the searches that must be cut short, bool [B].
  """
  rules, game = settings.rules, evaluation.go_game(settings.rules)
  empty = evaluation.initial(which.shape[0], rules)
  states = _where(is_new, empty, trees.root_states(games.tree))
  keys = _split(games, states)
  fast = jax.vmap(jax.random.uniform)(keys[:, 1]) < settings.fast_share
  is_full = ~fast | (states.ply == 0)
  starts_full = which & is_full
  noise = arrays.of_few(
    lambda rows: _noise(*rows, settings.noise_alpha),
    starts_full,
    (keys[:, 2], game.legal(states)),
    jnp.zeros_like(games.tree.noise),
  )
  readouts = jnp.where(is_full, settings.full_readouts, settings.fast_readouts)
  # The root of a new game still has the visits of the previous one.
  before = _visits(games.tree)
  of_others = jnp.where(is_new, before, 0)
  short = before - of_others + readouts > settings.tree.most_reads
  tree = trees.aim(
    games.tree,
    readouts - of_others,
    settings.tree,
    games=which,
    noise=noise,
  )
  # Without fast moves trees are kept, unless they lack room.
  emptied = starts_full & (is_new | short | (settings.fast_share > 0))
  games = dataclasses.replace(
    games,
    tree=trees.replant(tree, states, game, emptied),
    is_full=jnp.where(which, is_full, games.is_full),
  )
  return games, which & short


def _where(which: jax.Array, these: go.State, those: go.State) -> go.State:
  """`these` where `which` bool [B], else `those`; all of [B] games."""

  def choose(this, that):
    axes = tuple(range(1, this.ndim))
    return jnp.where(jnp.expand_dims(which, axes), this, that)

  return jax.tree.map(choose, these, those)


def _split(games: Games, states: go.State) -> jax.Array:
  """Keys [B, 3] of a ply: for its move, its kind of search and its noise."""
  return jax.vmap(
    lambda key, ply: jax.random.split(jax.random.fold_in(key, ply), 3)
  )(games.key, states.ply)


def _chosen(keys, root: moves.Root, early, allowed) -> jax.Array:
  """`moves.choose` with a key for each game: int32 [B]."""

  def choose(key, *one):
    root, early, allowed = jax.tree.map(lambda leaf: leaf[None], one)
    return moves.choose(key, root, early, allowed)[0]

  return jax.vmap(choose)(keys, root, early, allowed)


def _noise(keys: jax.Array, legal: jax.Array, alpha: float) -> jax.Array:
  """`formulas.root_noise` with a key for each game: float32 [B, A]."""
  return jax.vmap(
    lambda key, legal: formulas.root_noise(key, legal[None], alpha)[0]
  )(keys, legal)


def _visits(tree: trees.Tree) -> jax.Array:
  return jnp.take_along_axis(tree.visits, tree.root[:, None], axis=1)[:, 0]
