"""Tests of self-play: what is recorded of games, against a replay of them."""

import dataclasses
import functools
import re

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.minigo import go, self_play
from models.minigo import net as minigo
from models.minigo.self_play import evaluation, records
from models.minigo.tree_search import trees
from models.minigo.tree_search.trees import Settings as TreeSettings
from suite.run import sharding
from tests import quick
from tests.models.minigo import go_boards

RULES = go.Rules(3, komi=2.5, max_plies=12)
SETTINGS = self_play.Settings(
  rules=RULES,
  tree=TreeSettings(capacity=100, leaves=2, attempts=2),
  full_readouts=20,
  fast_readouts=3,
  resign_from=(-1.0, -0.5),
  no_resign_share=0.5,
  early_plies=4,
  rounds=2,
  looks=1,
)
BOARD_19 = self_play.Settings(
  rules=go.Rules(19), tree=TreeSettings(capacity=1603), looks=20, rounds=5
)
PLACES, LOOKS = 16, 240


def net(planes):
  """A net of no idea, in numbers that are sums without rounding."""
  bits = planes.reshape(planes.shape[0], -1).astype(jnp.float32)
  weights = np.random.default_rng(3).integers(-7, 8, (bits.shape[1], 11))
  found = bits @ jnp.asarray(weights, jnp.float32)
  return found[:, :10] / 8, jnp.clip(found[:, 10] / 16, -1, 1)


def keys():
  return self_play.keys_of(
    jax.random.key(5), jnp.arange(PLACES, dtype=jnp.int32)
  )


def begin(keys):
  return self_play.begin(keys, SETTINGS)


@functools.cache
def begin_compiled():
  lowered = jax.jit(begin).lower(keys())
  return lowered.compile(compiler_options=quick.OPTIONS)


def begun():
  return begin_compiled()(keys())


@functools.cache
def compiled(looks, devices):
  """The play program and its games' shapes, over so many devices."""
  settings = dataclasses.replace(SETTINGS, looks=looks)
  mesh = sharding.make_mesh(devices=jax.devices()[:devices])
  rows = sharding.split_rows(mesh)
  played = self_play.on_each_device(
    lambda _, games: self_play.play(net, games, settings),
    mesh if devices > 1 else None,
  )
  lowered = jax.jit(
    lambda games: played((), games),
    in_shardings=rows,
    out_shardings=rows,
    donate_argnums=0,
  ).lower(jax.eval_shape(begin, keys()))
  return lowered.compile(compiler_options=quick.OPTIONS), rows


@dataclasses.dataclass
class Seen:
  """Observations of a game."""

  boards: dict  # by ply, before its move
  full: dict  # whether the search at that ply was
  reads: dict  # visits that the search at that ply added
  recorded: list  # rows of its positions
  end: dict | None = None
  salt: int = 0
  kept: dict = dataclasses.field(default_factory=dict)  # visits it began with
  noisy: dict = dataclasses.field(default_factory=dict)


def _rows(some, place):
  """The records of a place, as dicts."""
  some = {
    name: np.asarray(values[place]) for name, values in vars(some).items()
  }
  count = some.pop('count')
  return [{k: v[at] for k, v in some.items()} for at in range(count)]


@quick.jit
def view(games):
  """States and searches between two looks."""
  tree, every = games.tree, jnp.arange(PLACES)
  states = trees.root_states(tree)
  noisy = (tree.noise > 0).any(axis=1)
  visits = tree.visits[every, tree.root]
  return states, games.number, games.is_full, games.salt, visits, noisy


@functools.cache
def watched():
  """Every game, by place and number, from calls of one look each."""
  program, rows = compiled(looks=1, devices=1)
  games, seen = jax.device_put(begun(), rows), {}
  for _ in range(LOOKS):
    states, number, full, salt, kept, noisy = jax.device_get(view(games))
    games, played = program(games)
    played = jax.device_get(played)
    for place in range(PLACES):
      at = (place, int(number[place]))
      game = seen.setdefault(at, Seen({}, {}, {}, [], salt=int(salt[place])))
      ply = int(states.ply[place])
      game.boards[ply] = np.sign(states.chain[place])
      game.full[ply] = bool(full[place])
      game.kept.setdefault(ply, int(kept[place]))
      game.noisy.setdefault(ply, bool(noisy[place]))
      reads = int(played.tally.reads[place])
      game.reads[ply] = game.reads.get(ply, 0) + reads
      for row in _rows(played.positions, place):
        seen[place, int(row['game'])].recorded.append(row)
      for row in _rows(played.ends, place):
        seen[place, int(row['game'])].end = row
  return seen


@quick.jit
def unpacked(planes):
  return records.unpacked(planes, SETTINGS)


turn = quick.jit(minigo.transform)


def ended():
  return [game for game in watched().values() if game.end is not None]


def replayed(game):
  """States by ply, from the boards that were seen."""
  state, states = go.initial(RULES), {}
  for ply in sorted(game.boards):
    if ply:
      new = (game.boards[ply] != 0) & (game.boards[ply - 1] == 0)
      move = np.flatnonzero(new)[0] if new.any() else RULES.size**2
      assert go_boards.legal(RULES)(state)[move]
      state = go_boards.play(RULES)(state, jnp.int32(move))
    np.testing.assert_array_equal(go.board(state), game.boards[ply])
    states[ply] = state
  return states


def last_moves(state):
  """The winners to which a move can end the game."""
  found = set()
  for move in np.flatnonzero(go_boards.legal(RULES)(state)):
    after = go_boards.play(RULES)(state, jnp.int32(move))
    after = go_boards.compiled(go.settle, RULES)(after)
    if go.is_over(after, RULES):
      found.add(int(go_boards.compiled(go.winner, RULES)(after)))
  return found


class RecordsTest(absltest.TestCase):
  def test_many_games_end_and_each_place_numbers_its_own(self):
    self.assertGreater(len(ended()), 60)
    for place in range(PLACES):
      numbers = sorted(n for at, n in watched() if at == place)
      self.assertEqual(numbers, list(range(len(numbers))))
      open_ones = [n for n in numbers if watched()[place, n].end is None]
      self.assertLessEqual(set(open_ones), {numbers[-1]})

  def test_what_is_recorded_is_what_the_engine_shows_at_that_ply(self):
    planes = go_boards.compiled(go.mlperf07, RULES)
    for game in ended()[:40]:
      states = replayed(game)
      for row in game.recorded:
        state = states[int(row['ply'])]
        got = unpacked(row['planes'][None])[0]
        np.testing.assert_array_equal(got, planes(state))
        legal = go_boards.legal(RULES)(state)
        self.assertEqual(row['visits'][~np.asarray(legal)].sum(), 0)
        self.assertGreater(row['visits'].sum(), 0)

  def test_the_moves_of_full_searches_are_recorded_and_no_other(self):
    resigned_after_full = 0
    for game in ended():
      plies = [ply for ply in sorted(game.full) if game.full[ply]]
      self.assertEqual(plies[0], 0)
      last = max(game.full)
      if game.end['resigned'] and game.full[last]:
        resigned_after_full += 1
        plies.remove(last)
      self.assertEqual([int(row['ply']) for row in game.recorded], plies)
    self.assertGreater(resigned_after_full, 0)

  def test_three_of_four_searches_after_the_first_are_fast(self):
    full = [
      game.full[ply] for game in ended() for ply in sorted(game.full) if ply
    ]
    deviation = (0.75 * 0.25 / len(full)) ** 0.5
    self.assertAlmostEqual(1 - np.mean(full), 0.75, delta=3 * deviation)

  def test_a_full_search_begins_with_nothing_a_fast_one_with_what_was_read(
    self,
  ):
    reused = []
    for game in ended():
      for ply, kept in game.kept.items():
        if game.full[ply]:
          self.assertEqual(kept, 0)
        else:
          reused.append(kept)
    self.assertGreater(np.mean(reused), 2)

  def test_the_roots_of_full_searches_have_noise_and_no_others(self):
    for game in ended():
      self.assertEqual(game.noisy, game.full)

  def test_a_search_reads_as_much_as_it_was_asked_to(self):
    most = 2 * SETTINGS.tree.leaves * SETTINGS.rounds
    for game in ended():
      for ply, reads in game.reads.items():
        least = SETTINGS.full_readouts if game.full[ply] else 3
        self.assertGreaterEqual(reads, least)
        if not game.full[ply] or ply == 0:
          self.assertLess(reads, least + most)

  def test_the_outcome_is_that_of_the_board_or_of_who_did_not_resign(self):
    black, counted = set(), 0
    for game in ended()[:60]:
      plies, last = int(game.end['plies']), max(game.boards)
      state = replayed(game)[last]
      if game.end['resigned']:
        self.assertEqual(plies, last)
        self.assertEqual(game.end['winner'], -state.to_play)
        self.assertNotEqual(game.end['despaired'], 0)
      else:
        self.assertEqual(plies, last + 1)
        self.assertIn(int(game.end['winner']), last_moves(state))
        counted += 1
      black.add(int(game.end['winner']))
    self.assertEqual(black, {-1, 1})
    self.assertGreater(counted, 10)

  def test_half_of_the_games_are_played_on_and_show_errors_of_resigning(self):
    fell = [game for game in ended() if game.end['despaired']]
    played_on = [game for game in fell if not game.end['resigned']]
    self.assertGreater(len(played_on), 5)
    self.assertLess(len(played_on), len(fell) - 5)
    wrong = [g for g in played_on if g.end['despaired'] == g.end['winner']]
    self.assertNotEmpty(wrong)  # the net has no idea

  def test_each_game_has_its_own_symmetries(self):
    salts = [game.salt for game in watched().values()]
    self.assertLen(set(salts), len(salts))


class LayoutTest(absltest.TestCase):
  def test_neither_devices_nor_calls_change_a_game(self):
    program, rows = compiled(looks=8, devices=8)
    games = jax.device_put(begun(), rows)
    room = dataclasses.replace(SETTINGS, looks=8).most_per_call
    self.assertLess(room, 8)
    found, most = {}, 0
    for _ in range(LOOKS // 8):
      games, played = program(games)
      played = jax.device_get(played)
      most = max(most, played.positions.count.max())
      for place in range(PLACES):
        for row in _rows(played.positions, place):
          found.setdefault((place, int(row['game'])), []).append(row)
    self.assertEqual(
      {len(shard.data) for shard in games.number.addressable_shards},
      {PLACES // 8},
    )
    self.assertEqual(most, room)  # it was needed, and it was enough
    wanted = {at: game for at, game in watched().items() if game.recorded}
    self.assertEqual(found.keys(), wanted.keys())
    for at, game in wanted.items():
      for got, row in zip(found[at], game.recorded, strict=True):
        for name in row:
          np.testing.assert_array_equal(got[name], row[name])

  def test_devices_send_each_other_nothing(self):
    text = compiled(looks=8, devices=8)[0].as_text()
    self.assertIn('while', text)
    self.assertNotRegex(
      text, r'all-reduce|all-gather|all-to-all|collective|send\(|recv\('
    )


class EvaluationTest(absltest.TestCase):
  def _ask(self, net, *, salts, states):
    state = go_boards.drawn('.X. ... ...', RULES, go.WHITE)
    states = jax.tree.map(lambda leaf: np.stack([leaf] * states), state)
    salts = np.arange(salts, dtype=np.uint32)
    return quick.jit(
      lambda salts, states: evaluation.evaluator(net, salts, SETTINGS)(states)
    )(salts, states)

  def test_a_position_is_seen_in_every_way_but_in_a_game_in_one(self):
    def where(planes):
      stone = planes[..., 1].reshape(planes.shape[0], -1)
      return jnp.zeros((planes.shape[0], 10)), jnp.argmax(stone, axis=1)

    _, seen = self._ask(where, salts=64, states=2 * 64)
    seen = np.asarray(seen).reshape(64, 2)
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    self.assertEqual(set(seen.ravel()), {1, 3, 5, 7})  # all that it can be

  def test_answers_are_turned_back_to_the_board_as_it_stands(self):
    def stones(planes):
      logits = planes[..., 1].reshape(planes.shape[0], -1).astype(jnp.float32)
      return jnp.pad(logits, ((0, 0), (0, 1))), logits.sum(axis=1)

    logits, _ = self._ask(stones, salts=32, states=32)
    wanted = np.eye(10)[1]
    np.testing.assert_array_equal(logits, np.tile(wanted, (32, 1)))

  def test_examples_are_the_records_under_their_symmetry(self):
    rows = [row for game in ended() for row in game.recorded][:16]
    batch = {
      name: np.stack([row[name] for row in rows])
      for name in ('planes', 'visits', 'ply')
    }
    batch['symmetry'] = np.arange(16, dtype=np.int8) % 8
    batch['outcome'] = np.where(np.arange(16) % 2, 1, -1).astype(np.int8)
    got = quick.jit(lambda b: self_play.examples(b, SETTINGS))(batch)
    self.assertEqual(got.planes.dtype, bool)
    np.testing.assert_allclose(got.pi.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(got.outcome, batch['outcome'])
    for n, row in enumerate(rows):
      counts = row['visits'].astype(float)
      counts = counts**0.98 if row['ply'] < 4 else counts
      points = counts[:-1].reshape(1, 3, 3) / counts.sum()
      turned = turn(points, np.array([n % 8]))
      np.testing.assert_allclose(
        got.pi[n, :-1], turned.ravel(), rtol=1e-5, atol=1e-7
      )
      planes = np.unpackbits(row['planes'])[: 9 * 13].reshape(1, 3, 3, 13)
      planes = turn(planes, np.array([n % 8]))[0]
      np.testing.assert_array_equal(got.planes[n], planes)


@functools.cache
def matched():
  """`match` of two nets of one number: 1 plays points, -1 passes."""
  settings = self_play.MatchSettings(
    rules=RULES, tree=TreeSettings(capacity=24, leaves=2), readouts=4
  )

  def of(taste):
    def policy(planes):
      points = jnp.arange(9, dtype=jnp.float32)[None] + 0 * planes[:, 0, 0, :1]
      logits = jnp.pad(points, ((0, 0), (0, 1))) * 3
      return logits.at[:, -1].set(-50 * taste), jnp.zeros(planes.shape[0])

    return policy

  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  rows, same = sharding.split_rows(mesh), sharding.replicated(mesh)
  run = self_play.on_each_device(
    lambda tastes, keys: self_play.match(
      self_play.of_net(of(tastes[0]), settings),
      self_play.of_net(of(tastes[1]), settings),
      keys,
      settings,
    ),
    mesh,
  )
  lowered = jax.jit(run, in_shardings=(same, rows)).lower(
    jax.ShapeDtypeStruct((2,), jnp.float32), jax.eval_shape(keys)
  )
  return lowered.compile(compiler_options=quick.OPTIONS), rows, same


def result_of(first, second):
  run, rows, same = matched()
  tastes = jax.device_put(np.array([first, second], np.float32), same)
  return jax.device_get(run(tastes, jax.device_put(keys(), rows)))


class MatchTest(absltest.TestCase):
  def test_who_always_passes_loses_with_either_colour(self):
    self.assertEqual(result_of(1, -1).winner.tolist(), [1] * PLACES)
    self.assertEqual(result_of(-1, 1).winner.tolist(), [-1] * PLACES)

  def test_the_first_is_black_in_even_games(self):
    # Nobody plays a stone, so White wins by komi.
    got = result_of(-1, -1)
    self.assertEqual(got.winner.tolist(), [-1, 1] * (PLACES // 2))
    self.assertEqual(got.plies.tolist(), [2] * PLACES)

  def test_devices_send_each_other_nothing(self):
    self.assertFalse(
      re.search(r'all-reduce|all-gather|collective', matched()[0].as_text())
    )

  def test_an_odd_number_of_games_on_a_device_is_refused(self):
    settings = self_play.MatchSettings(RULES, TreeSettings(capacity=120))
    with self.assertRaisesRegex(ValueError, 'even number of games.*got 3'):
      player = self_play.of_net(net, settings)
      self_play.match(player, player, keys()[:3], settings)


class SettingsTest(parameterized.TestCase):
  def test_a_call_records_no_more_than_its_rounds_can_search(self):
    # 100 rounds of at most 8 visits: one search, and one that was under way.
    self.assertEqual(BOARD_19.most_per_call, 2)
    self.assertEqual(dataclasses.replace(BOARD_19, looks=1).most_per_call, 1)

  @parameterized.parameters(
    ({'fast_share': 1.5}, r'fast_share in \[0, 1\], got 1.5'),
    ({'no_resign_share': -1}, 'no_resign_share'),
    ({'full_readouts': 400}, 'room for 99 reads with full_readouts=400'),
    ({'fast_readouts': 0}, 'at least one readout'),
    ({'resign_from': (0.0, -1.0)}, 'ascending resign_from'),
    ({'planes': 'alphago'}, "agz.*mlperf07.*got 'alphago'"),
  )
  def test_what_does_not_fit_is_refused(self, change, says):
    with self.assertRaisesRegex(ValueError, says):
      dataclasses.replace(SETTINGS, **change)

  def test_games_of_a_random_net_have_no_fast_moves_and_few_passes(self):
    got = self_play.bootstrap(BOARD_19)
    self.assertEqual(got.fast_share, 0)
    self.assertFalse(got.tree.may_pass)


if __name__ == '__main__':
  absltest.main()
