r"""Positions a second in self-play: here, of the bare net, of the reference.

  JAX_PLATFORMS=cpu python studies/self_play_speed.py --board=9 \
    --reference=DIR

DIR is a clone of github.com/mlcommons/training. Its Python self-play, in
retired_benchmarks/minigo/tensorflow/minigo, runs as it is, in a process of its
own. Only its net is ours, with equal weights, compiled by XLA: TensorFlow 1 is
not to be had any more. It imports tensorflow and others for what is not called
here; those are empty modules. That both sides have the same planes, legal
moves, priors and value of a position is checked first.

The three take turns. A turn begins after random moves, each time more of them,
so that all parts of a game are measured. Readouts a move, kept trees, noise and
symmetries are the same. Fast searches are off, and all nets have the 17 planes
of AlphaGo Zero: the reference's Python has no fast searches, and fails to make
the 13 planes of v0.7 after the third move.

"Seen" is what the net was asked about, whether of use or not; visits are those
of roots, which a game that is over gets without the net. Rates per second of
CPU, summed over cores, are disturbed little by other work on the machine.
"""

import concurrent.futures
import dataclasses
import functools
from functools import partial
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
import types

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models.minigo import go, self_play
from models.minigo import net as minigo
from models.minigo.self_play import evaluation
from models.minigo.tree_search import trees
from models.parts import functional
from suite import benchmark
from suite.benchmarks.minigo import settings as settings_lib

_count = partial(flags.DEFINE_integer, lower_bound=1)
_BOARD = flags.DEFINE_enum('board', '9', ['5', '9', '19'], 'Points in a row.')
_PLACES = _count('places', 64, 'Games that we play at once.')
_LEAVES = _count('leaves', None, "Of a tree at once; None: the benchmark's.")
_READOUTS = _count('readouts', None, "Visits of a move; None: the benchmark's.")
_LOOKS = _count('looks', 4, 'Of a call: see Settings.')
_THEIR_LEAVES = _count('reference_leaves', 8, 'Of its trees: its own default.')
_TURNS = _count('turns', 5, 'Of each side.')
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Of a turn, at least.')
_REFERENCE = flags.DEFINE_string(
  'reference', None, 'A clone; else it is left out.'
)

_FOLDER = 'retired_benchmarks/minigo/tensorflow/minigo'
_UNUSED = ('tensorflow', 'dual_net', 'preprocessing', 'sgf')


@dataclasses.dataclass(frozen=True)
class Case:
  """A net, how games are played with it, and the leaves of each side."""

  size: minigo.Size
  settings: self_play.Settings
  their_leaves: int


@dataclasses.dataclass(frozen=True)
class Turn:
  """Work done in one: counts, and seconds."""

  seen: int  # by the net
  visits: int  # of roots
  wall: float
  cpu: float
  in_net: float = 0.0  # of `cpu`; `measure` adds what a program hides


def case() -> Case:
  """Settings that the flags ask for."""
  board = int(_BOARD.value)
  size, settings = {
    5: (
      minigo.Size(side=5, planes=17, width=16, blocks=2, value_width=32),
      self_play.Settings(
        rules=go.Rules(5),
        tree=trees.Settings(capacity=65, leaves=2),
        full_readouts=32,
        fast_readouts=32,
        no_resign_share=1.0,
        noise_alpha=0.3,
        early_plies=2,
      ),
    ),
    9: (minigo.Size(side=9, planes=17, width=32, blocks=9), _settings('9x9')),
    19: (
      minigo.Size(side=19, planes=17, width=64, blocks=6),
      _settings('reference'),
    ),
  }[board]
  readouts = _READOUTS.value or settings.full_readouts
  leaves = _LEAVES.value or settings.tree.leaves
  tree = dataclasses.replace(
    settings.tree, capacity=2 * readouts + leaves - 1, leaves=leaves
  )
  settings = dataclasses.replace(
    settings,
    rules=dataclasses.replace(settings.rules, max_plies=2 * board**2),
    tree=tree,
    planes='agz',
    full_readouts=readouts,
    fast_readouts=readouts,
    fast_share=0.0,
    looks=_LOOKS.value,
  )
  return Case(size, settings, _THEIR_LEAVES.value)


def _settings(size: str) -> self_play.Settings:
  """Settings of games of a size of the benchmark."""
  return settings_lib.settings(benchmark.get('minigo').size(size).hparams)


def the_net(size: minigo.Size):
  """`(weights, planes) -> logits, values`; and weights, always the same."""
  net = functional.Functional.of(
    lambda rngs: minigo.Minigo(size, bn_span=None, rngs=rngs)
  )
  weights = jax.jit(net.init)(jax.random.key(0))
  return lambda weights, x: net.apply(*weights, x, train=False)[0], weights


class Here:
  """Our side: the bare net, and self-play with it."""

  def __init__(self, case: Case, places: int):
    self._settings = case.settings
    self.batch = places * case.settings.tree.leaves
    net, weights = the_net(case.size)

    def play(weights, games):
      return self_play.play(partial(net, weights), games, case.settings)

    # The weights are arguments, as in training: XLA folds no constants.
    self._net = partial(jax.jit(net), weights)
    self._play = partial(jax.jit(play, donate_argnums=1), weights)
    keys = self_play.keys_of(jax.random.key(0), jnp.arange(places))
    self._begin = partial(jax.jit(self._begun), keys)
    shape = (self.batch, case.size.side, case.size.side, case.size.planes)
    draws = np.random.default_rng(0)
    self._planes = jnp.asarray(draws.random(shape) < 0.3)
    self.bare(0.0)
    self.play(0, 0.0)

  def bare(self, seconds: float) -> Turn:
    """The net alone, at the batch that self-play has."""
    seen, clock = 0, _Clock(seconds)
    while not seen or not clock.is_over():
      jax.block_until_ready(self._net(self._planes))
      seen += self.batch
    wall, cpu = clock.spent()
    return Turn(seen, seen, wall, cpu, in_net=cpu)

  def play(self, plies: int, seconds: float) -> Turn:
    """Games that go on after so many random moves."""
    games = jax.block_until_ready(self._begin(plies))
    looks, rounds = self._settings.looks, self._settings.rounds
    seen = visits = 0
    clock = _Clock(seconds)
    while not seen or not clock.is_over():
      games, played = self._play(games)
      visits += int(np.asarray(played.tally.reads).sum())
      seen += looks * rounds * self.batch
    return Turn(seen, visits, *clock.spent())

  def view(self, moves: list[int]) -> dict[str, np.ndarray]:
    """Facts of the position after `moves`, to be compared."""
    rules, points = self._settings.rules, jnp.asarray(moves, jnp.int32)
    state = go.initial(rules)
    state = jax.lax.fori_loop(
      0, len(moves), lambda i, state: go.play(state, points[i], rules), state
    )
    planes = self._settings.encode(state, rules)
    logits, values = self._net(planes[None])
    found = {
      'planes': planes,
      'legal moves': go.legal(state, rules),
      'priors': jax.nn.softmax(logits[0]),
      'value': values[0],
    }
    return {name: np.asarray(each, float) for name, each in found.items()}

  def _begun(self, keys: jax.Array, plies: jax.Array) -> self_play.Games:
    rules, settings = self._settings.rules, self._settings
    game = evaluation.go_game(rules)
    games = self_play.begin(keys, settings)

    def move(ply, states):
      points = game.legal(states)[:, :-1]
      key = jax.random.fold_in(jax.random.key(1), ply)
      logits = jnp.where(points, 0.0, -jnp.inf)
      drawn = jax.random.categorical(key, logits)
      actions = jnp.where(points.any(axis=1), drawn, rules.size**2)
      return game.play(states, actions.astype(jnp.int32))

    states = evaluation.initial(keys.shape[0], rules)
    states = jax.lax.fori_loop(0, plies, move, states)
    everywhere = jnp.ones(keys.shape[0], bool)
    tree = trees.replant(games.tree, states, game, everywhere)
    return dataclasses.replace(games, tree=tree)


class There:
  """The reference's side, which must have a process of its own."""

  def __init__(self, case: Case, folder: str):
    rules = case.settings.rules
    # Its modules read it when they are imported.
    os.environ['BOARD_SIZE'] = str(rules.size)
    sys.path.insert(0, folder)
    empty = {name: types.ModuleType(name) for name in _UNUSED}
    empty['tensorflow'].gfile = None
    sys.modules.update(empty)

    import coords
    import features
    import go as their_go
    import selfplay
    import symmetries

    for name in empty:
      # Others would take it for the real one.
      del sys.modules[name]
    flags.FLAGS(['reference', *_their_flags(case)])
    self._go, self._selfplay = their_go, selfplay
    self._coordinates = coords.from_flat
    self._net = _TheirNet(case, features, symmetries)
    self._player = selfplay.MCTSPlayer
    self._draws = np.random.default_rng(0)
    self.play(0, 0.0)

  def play(self, plies: int, seconds: float) -> Turn:
    """One game after another, each after the same so many random moves."""
    player = _counting(self._player, self._moved(plies))
    self._selfplay.MCTSPlayer = player
    self._net.seen, self._net.seconds = 0, 0.0
    player.clock = clock = _Clock(seconds)
    try:
      while True:
        self._selfplay.play(self._net)
    except _TurnIsOver:
      return Turn(
        self._net.seen, player.visits, *clock.spent(), self._net.seconds
      )

  def view(self, moves: list[int]) -> dict[str, np.ndarray]:
    """See Here."""
    position = self._go.Position()
    for move in moves:
      position = position.play_move(self._coordinates(move))
    planes = self._net.planes([position])
    priors, values = self._net.call(np.stack(planes))
    return {
      'planes': planes[0],
      'legal moves': position.all_legal_moves(),
      'priors': priors[0],
      'value': values[0],
    }

  def _moved(self, plies: int):
    position = self._go.Position()
    for _ in range(plies):
      points = np.flatnonzero(position.all_legal_moves()[:-1])
      drawn = self._draws.choice(points) if points.size else self._go.N**2
      position = position.play_move(self._coordinates(drawn))
    return position


class _TheirNet:
  """Interface that the reference asks of its net, with our answers."""

  save_file = ''

  def __init__(self, case: Case, features, symmetries):
    self.planes = lambda positions: [
      features.extract_features(position, features.AGZ_FEATURES)
      for position in positions
    ]
    self._symmetries = symmetries
    net, weights = the_net(case.size)

    @jax.jit
    def answer(weights, planes):
      logits, values = net(weights, planes)
      return jax.nn.softmax(logits), values

    self._answer = partial(answer, weights)
    side = case.size.side
    # A batch is short where games are over; no size is compiled in a turn.
    for rows in range(1, case.their_leaves + 1):
      self.call(np.zeros((rows, side, side, case.size.planes), np.uint8))
    self.seen, self.seconds = 0, 0.0

  def call(self, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, S, S, F] -> priors of all moves [N, A], values [N]."""
    priors, values = jax.device_get(self._answer(planes))
    return priors, values

  def run(self, position):
    """Priors [A] and value of one."""
    priors, values = self.run_many([position])
    return priors[0], values[0]

  def run_many(self, positions):
    """Priors [N, A] and values [N], each seen under a random symmetry."""
    used, planes = self._symmetries.randomize_symmetries_feat(
      self.planes(positions)
    )
    start = time.process_time()
    priors, values = self.call(np.stack(planes))
    self.seconds += time.process_time() - start
    self.seen += len(positions)
    return self._symmetries.invert_symmetries_pi(used, priors), values


class _TurnIsOver(Exception):
  """Ends a game of the reference in the middle."""


def _counting(player_class, position):
  """The reference's player, begun at `position`, stopped by `clock`."""

  class Counting(player_class):
    visits = 0
    clock: '_Clock'

    def initialize_game(self, _=None):
      super().initialize_game(position)

    def tree_search(self, parallel_readouts=None):
      before = self.root.N
      leaves = super().tree_search(parallel_readouts)
      Counting.visits += int(self.root.N - before)
      if Counting.clock.is_over():
        raise _TurnIsOver
      return leaves

  return Counting


class _Clock:
  """Seconds of the wall clock and of this process's CPU."""

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._wall, self._cpu = time.perf_counter(), time.process_time()

  def is_over(self) -> bool:
    return time.perf_counter() - self._wall >= self._seconds

  def spent(self) -> tuple[float, float]:
    """Seconds of the wall's clock and of CPU."""
    wall = time.perf_counter() - self._wall
    return wall, time.process_time() - self._cpu


def _their_flags(case: Case) -> list[str]:
  """Theirs for what our settings say."""
  settings = case.settings
  return [
    '--verbose=0',
    f'--num_readouts={settings.full_readouts}',
    f'--parallel_readouts={case.their_leaves}',
    f'--softpick_move_cutoff={settings.early_plies}',
    f'--max_game_length={settings.rules.max_plies}',
    f'--dirichlet_noise_alpha={settings.noise_alpha}',
    f'--dirichlet_noise_weight={settings.tree.noise_mix}',
    f'--resign_threshold={statistics.mean(settings.resign_from)}',
    f'--resign_disable_pct={settings.no_resign_share}',
  ]


@functools.cache
def _there(case: Case, folder: str) -> There:
  return There(case, folder)


def _ask(case: Case, folder: str, method: str, *arguments):
  return getattr(_there(case, folder), method)(*arguments)


def reference_folder(clone: str) -> str:
  """Path of its Python; ValueError if there is none."""
  folder = pathlib.Path(clone, _FOLDER).absolute()
  if not (folder / 'selfplay.py').is_file():
    raise ValueError(
      f'Expected a clone of mlcommons/training with {_FOLDER}/selfplay.py; '
      f'came {clone}.'
    )
  return str(folder)


def opening(side: int) -> list[int]:
  """A few moves, the fourth of which captures, more than the net sees."""
  last, middle = side - 1, side // 2
  points = [
    (0, 0), (0, 1), (last, 0), (1, 0), (0, last), (last, last),
    (last, middle), (middle, last), (middle, middle), (0, middle),
    (middle, 0),
  ]  # fmt: skip
  return [row * side + column for row, column in points]


def require_equal(ours, theirs) -> None:
  """ValueError where a position is not the same on both sides."""
  gaps = {name: np.abs(ours[name] - theirs[name]).max() for name in ours}
  text = ', '.join(f'{name} {gap:.0e}' for name, gap in gaps.items())
  if not max(gaps.values()) < 1e-5:
    raise ValueError(f'Expected the same on both sides; they differ by {text}.')
  print(f'one position on both sides, largest differences: {text}')


def measure(sides, points: int, turns: int) -> dict[str, list[Turn]]:
  """The sides' turns, by name; they alternate, and begin ever later."""
  found = {name: [] for name in sides}
  for number in range(turns):
    plies = number * points // turns
    for name, side in sides.items():
      turn = side(plies, _SECONDS.value)
      found[name].append(turn)
      print(
        f'turn {number + 1} of {turns}, ply {plies}, {name}: '
        f'{turn.visits / turn.wall:.0f} visits/s in {turn.wall:.1f} s',
        flush=True,
      )
  found['here'] = [
    dataclasses.replace(turn, in_net=turn.seen * net.cpu / net.seen)
    for turn, net in zip(found['here'], found['net alone'], strict=True)
  ]
  return found


_RATES = {
  'seen/s': lambda turn: turn.seen / turn.wall,
  'visits/s': lambda turn: turn.visits / turn.wall,
  'seen/CPU s': lambda turn: turn.seen / turn.cpu,
  'visits/CPU s': lambda turn: turn.visits / turn.cpu,
}
_COLUMNS = {
  **_RATES,
  'cores': lambda turn: turn.cpu / turn.wall,
  '% in net': lambda turn: 100 * turn.in_net / turn.cpu,
  'us outside': lambda turn: 1e6 * (turn.cpu - turn.in_net) / turn.visits,
}


def report(found: dict[str, list[Turn]]) -> None:
  """Prints medians over turns, and those of the ratios within a turn."""
  print(f'\n{"medians":<12}', *(f'{name:>13}' for name in _COLUMNS))
  for name, turns in found.items():
    values = (statistics.median(map(of, turns)) for of in _COLUMNS.values())
    print(f'{name:<12}', *(f'{value:13,.2f}' for value in values))
  print('"outside" is CPU of a visit without what the net takes')
  for name in [name for name in found if name != 'here']:
    for rate, of in _RATES.items():
      pairs = zip(found['here'], found[name], strict=True)
      ratios = sorted(of(ours) / of(other) for ours, other in pairs)
      print(
        f'here / {name}, {rate}: {statistics.median(ratios):.2f}, from '
        f'{ratios[0]:.2f} to {ratios[-1]:.2f}'
      )


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  asked = case()
  folder = _REFERENCE.value and reference_folder(_REFERENCE.value)
  settings = asked.settings
  here = Here(asked, _PLACES.value)
  sides = {
    'net alone': lambda _, seconds: here.bare(seconds),
    'here': here.play,
  }
  print(
    f'{_BOARD.value}x{_BOARD.value}, {settings.full_readouts} readouts a move; '
    f'here {_PLACES.value} games x {settings.tree.leaves} leaves = batches of '
    f'{here.batch}; cores: {len(os.sched_getaffinity(0))}; load: '
    f'{os.getloadavg()[0]:.1f}'
  )
  # Nothing is started before it is asked for something.
  with concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context('spawn')
  ) as process:

    def ask(*what):
      return process.submit(_ask, asked, folder, *what).result()

    if folder:
      moves = opening(settings.rules.size)
      require_equal(here.view(moves), ask('view', moves))
      sides['reference'] = partial(ask, 'play')
    report(measure(sides, settings.rules.size**2, _TURNS.value))


if __name__ == '__main__':
  app.run(main)
