"""Tests of the beam search, with one in plain Python as the witness."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.parts import beam_search
from tests import quick

END = 1
_LONGEST = 12
# Of eight machines: what beam_search of mlcommons/training, retired_benchmarks/
# gnmt, pytorch/seq2seq/inference/beam_search.py finds, for 5 beams, 12 tokens,
# and its usual penalties.
REFERENCE = (
  (3, 6, 3, 3, 3, 3, 3, 7, 11, 6, 6, 11),
  (5, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  (9, 6, 7, 11, 7, 11, 7, 11, 7, 11, 7, 11),
  (7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  (4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  (3, 3, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0),
  (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  (9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
)


def plain_search(next_log_probs, start, *, beams, length, alpha, best_of=None):
  """[(score, tokens)] of one sentence, best first, written from the rules.

  `next_log_probs(tokens)` are those of what follows `tokens`, a tuple; `length`
  is the limit. It keeps all the past of a hypothesis and caches nothing.
  """
  penalty = lambda count: np.float32(  # noqa: E731
    ((np.float32(5) + np.float32(count)) / np.float32(6)) ** np.float32(alpha)
  )
  alive, ended = [(np.float32(0), ())], []
  for count in range(1, length + 1):
    grown = [
      (np.float32(log_prob + more), (*tokens, token))
      for log_prob, tokens in alive
      for token, more in enumerate(next_log_probs((start, *tokens)))
    ]
    grown.sort(key=lambda each: -each[0])
    grown = grown[: 2 * beams]
    new = [
      (np.float32(log_prob / penalty(count)), tokens)
      for log_prob, tokens in grown
      if tokens[-1] == END
    ]
    ended = sorted(ended + new, key=lambda each: -each[0])[:beams]
    alive = [each for each in grown if each[1][-1] != END][:beams]
    if not alive or (ended and ended[-1][0] >= alive[0][0] / penalty(length)):
      break
  return ended or alive


class Machine:
  """Random machines, one a sentence, that read tokens and tell what is next.

  The next state follows from the state and the token, so the log probabilities
  of a token depend on all tokens before it. They also depend on the
  position, or the same moves in another order would have the same sum.
  """

  def __init__(self, *, sentences, states, vocabulary, spread, seed):
    draws = np.random.default_rng(seed)
    shape = (sentences, states, vocabulary)
    logits = spread * draws.standard_normal(shape)
    logits[..., END] += draws.normal(0, 1, (sentences, 1))
    drift = spread * draws.standard_normal((_LONGEST, 1, 1, vocabulary)) / 4
    # [T, sentences, states, vocabulary]
    self.logits = (logits[None] + drift).astype(np.float32)
    self.moves = draws.integers(0, states, shape).astype(np.int32)
    self.starts = draws.integers(0, vocabulary, sentences).astype(np.int32)
    self._log_probs = np.asarray(jax.nn.log_softmax(self.logits))

  def next_log_probs(self, sentence, tokens):
    state = self.state(sentence, tokens)
    return self._log_probs[len(tokens) - 1, sentence, state]

  def state(self, sentence, tokens):
    """The state after some tokens."""
    state = 0
    for token in tokens:
      state = self.moves[sentence, state, token]
    return state

  def cache(self, beams):
    sentences = np.repeat(np.arange(len(self.starts)), beams)
    return {'sentence': sentences, 'state': np.zeros(len(sentences), np.int32)}

  @staticmethod
  def step(logits, moves, tokens, cache, position):
    state = moves[cache['sentence'], cache['state'], tokens]
    told = logits[position, cache['sentence'], state]
    return told, {**cache, 'state': state}


@functools.partial(
  quick.jit, static_argnames=('beams', 'max_length', 'alpha', 'bar')
)
def _search(logits, moves, cache, starts, limits, **settings):
  step = functools.partial(Machine.step, logits, moves)
  return beam_search.search(
    step, cache, starts, limits=limits, end=END, **settings
  )


def _found(machine, limits, *, beams, **settings):
  return jax.device_get(
    _search(
      machine.logits, machine.moves, machine.cache(beams), machine.starts,
      limits, beams=beams, **settings,
    )
  )  # fmt: skip


def _hypotheses(found, sentence):
  """As those of the plain search; its tokens end before the zeros."""
  for score, tokens in zip(
    found.scores[sentence], found.tokens[sentence], strict=True
  ):
    if not np.isneginf(score):
      yield score, tokens


def _machine(sentences, vocabulary, spread):
  return Machine(
    sentences=sentences, states=11, vocabulary=vocabulary, spread=spread,
    seed=vocabulary,
  )  # fmt: skip


class AgainstPlainTest(parameterized.TestCase):
  apart = 5  # of sentences that are searched plainly

  @parameterized.parameters(
    # sentences, beams, vocabulary, longest, alpha, spread
    (500, 4, 12, 9, 0.6, 2.0),
    (400, 3, 5, 12, 0.0, 1.0),
    (400, 2, 7, 10, 1.0, 3.0),
    (400, 4, 3, 7, 0.6, 1.0),  # fewer tokens than candidates
    (400, 1, 6, 10, 0.8, 2.0),
    (300, 5, 2, 6, 2.0, 1.0),
    (300, 4, 9, 1, 0.6, 2.0),
    (300, 6, 20, 6, 0.6, 0.2),  # hypotheses that hardly differ
  )
  def test_every_hypothesis_of_many_machines_is_found(
    self, sentences, beams, vocabulary, longest, alpha, spread
  ):
    machine = _machine(sentences, vocabulary, spread)
    limits = np.random.default_rng(3).integers(1, longest + 1, sentences)
    limits = limits.astype(np.int32)
    found = _found(
      machine, limits, beams=beams, max_length=longest, alpha=alpha
    )
    for i in range(0, sentences, self.apart):
      expected = plain_search(
        functools.partial(machine.next_log_probs, i), machine.starts[i],
        beams=beams, length=limits[i], alpha=alpha,
      )  # fmt: skip
      ours = list(_hypotheses(found, i))
      self.assertLen(ours, len(expected), f'sentence {i}')
      for (score, tokens), (their_score, theirs) in zip(
        ours, expected, strict=True
      ):
        np.testing.assert_allclose(score, their_score, rtol=1e-5)
        padded = np.pad(theirs, (0, longest - len(theirs)))
        np.testing.assert_array_equal(tokens, padded, f'sentence {i}')


@pytest.mark.slow
class AgainstPlainInFullTest(AgainstPlainTest):
  """All sentences, of which there are thousands."""

  apart = 1


class SearchTest(parameterized.TestCase):
  @parameterized.parameters(
    (500, 4, 12, 12, 0.6, 2.0), (400, 3, 5, 12, 0.0, 1.0),
    (400, 2, 7, 10, 1.0, 3.0), (300, 6, 20, 6, 0.6, 0.2),
  )  # fmt: skip
  def test_closed_by_the_best_the_best_is_the_same_and_found_sooner(
    self, sentences, beams, vocabulary, longest, alpha, spread
  ):
    machine = _machine(sentences, vocabulary, spread)
    settings = {'beams': beams, 'max_length': longest, 'alpha': alpha}
    usual = _found(machine, None, **settings)
    soon = _found(machine, None, bar=beam_search.best, **settings)
    np.testing.assert_array_equal(soon.tokens[:, 0], usual.tokens[:, 0])
    np.testing.assert_array_equal(soon.scores[:, 0], usual.scores[:, 0])
    # Some are closed with places behind the best that the usual search fills.
    self.assertGreater(np.isneginf(soon.scores).sum(), 0)
    self.assertLessEqual(soon.steps, usual.steps)

  @parameterized.parameters((8, 5000), (8, 64 * 16 + 1), (2, 100), (1, 6400))
  def test_the_largest_of_many_are_those_of_lax_ties_included(self, k, length):
    draws = np.random.default_rng(k * length)
    for kinds in (3, 50, 10**6):  # few kinds: nearly all are ties
      values = draws.integers(0, kinds, (20, length)).astype(np.float32)
      values[values == 0] = -np.inf
      found = quick.jit(beam_search.top_k, static_argnums=1)(values, k)
      for ours, theirs in zip(found, jax.lax.top_k(values, k), strict=True):
        np.testing.assert_array_equal(ours, theirs)

  def test_without_a_limit_of_its_own_a_sentence_has_the_longest(self):
    machine = Machine(sentences=50, states=5, vocabulary=4, spread=1.0, seed=1)
    free = _found(machine, None, beams=2, max_length=6, alpha=0.6)
    same = _found(
      machine, np.full(50, 99, np.int32), beams=2, max_length=6, alpha=0.6
    )
    jax.tree.map(np.testing.assert_array_equal, free, same)
    self.assertEqual(free.steps, 6)


def plain_together(machine, attention, sentence, *, beams, length, **penalties):
  """(score, tokens) of the best, written from the rules of `search_together`.

  `attention` is [states, M]. Sums of it belong to places, not hypotheses.
  """
  alpha, coverage = penalties['alpha'], penalties['coverage']
  start = int(_starts(machine)[sentence])
  held = [(np.float32(0), ())]
  attended = np.zeros((beams, attention.shape[1]), np.float32)
  for count in range(1, length + 1):
    grown = []
    for place, (score, tokens) in enumerate(held):
      if tokens[-1:] == (END,):
        grown.append((score, tokens))
        continue
      told = machine.next_log_probs(sentence, (start, *tokens))
      # At first all places hold the start, though one alone is continued.
      here = place if tokens else slice(None)
      attended[here] += attention[machine.state(sentence, (start, *tokens))]
      grown += [
        (np.float32(score + more), (*tokens, token))
        for token, more in enumerate(told)
      ]
    held = sorted(grown, key=lambda each: -each[0])[:beams]
    if count < length and all(tokens[-1] == END for _, tokens in held):
      scored = []
      for place, (score, tokens) in enumerate(held):
        logs = np.log(np.minimum(attended[place], 1)[attended[place] > 0])
        penalty = ((5 + 1 + len(tokens)) / 6) ** alpha
        scored.append((score / penalty + coverage * logs.sum(), tokens))
      held = scored
      break
  return max(held, key=lambda each: each[0])


class TogetherTest(parameterized.TestCase):
  @parameterized.parameters(
    # sentences, beams, vocabulary, longest, spread
    (200, 5, 12, 12, 2.0),
    (150, 4, 8, 9, 1.0),
    (150, 3, 20, 10, 3.0),
    (100, 2, 6, 1, 1.0),
    (100, 1, 6, 6, 2.0),
  )
  def test_the_best_of_many_machines_is_found(
    self, sentences, beams, vocabulary, longest, spread
  ):
    machine = _machine(sentences, vocabulary, spread)
    attention = _attention(machine, vocabulary)
    how = {'beams': beams, 'alpha': 0.6, 'coverage': 0.1}
    found = _together(machine, attention, max_length=longest, **how)
    for i in range(sentences):
      score, tokens = plain_together(
        machine, attention[i], i, length=longest, **how
      )
      padded = np.pad(tokens, (0, longest - len(tokens)))
      np.testing.assert_array_equal(found.tokens[i, 0], padded, f'{i}')
      np.testing.assert_allclose(found.scores[i, 0], score, rtol=2e-5)

  def test_the_reference_s_own_search_finds_the_same(self):
    machine = _machine(8, 12, 2.0)
    found = _together(
      machine, _attention(machine, 12), max_length=12, beams=5, alpha=0.6,
      coverage=0.1,
    )  # fmt: skip
    np.testing.assert_array_equal(found.tokens[:, 0], REFERENCE)

  def test_both_penalties_decide(self):
    machine = _machine(300, 12, 2.0)
    attention = _attention(machine, 12)
    how = {'max_length': 12, 'beams': 5}
    usual, *others = (
      _together(
        machine, attention, alpha=alpha, coverage=coverage, **how
      ).tokens[:, 0]
      for alpha, coverage in ((0.6, 0.1), (0.0, 0.1), (0.6, 0.0))
    )
    for other in others:
      self.assertBetween((usual != other).any(axis=1).sum(), 1, 60)

  def test_settings_that_make_no_sense_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'coverage >= 0, got 1, 3, 0.6'):
      beam_search.search_together(
        None, (), jnp.zeros(1, jnp.int32), beams=1, end=END, max_length=3,
        alpha=0.6, coverage=-0.1, memory_length=2,
      )  # fmt: skip


def _starts(machine):
  """Token that sentences begin with, which is no end."""
  return np.where(machine.starts == END, 0, machine.starts)


def _attention(machine, seed):
  """Weights [sentences, states, 6], of which some are 0."""
  draws = np.random.default_rng(seed)
  weights = np.exp(1.5 * draws.standard_normal((*machine.moves.shape[:2], 6)))
  ends = draws.integers(2, 7, (len(weights), 1, 1))
  weights *= np.arange(6)[None, None] < ends
  return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


@functools.partial(
  quick.jit, static_argnames=('beams', 'max_length', 'alpha', 'coverage')
)
def _searched(logits, moves, attention, cache, starts, **settings):
  def step(tokens, cache, position):
    told, after = Machine.step(logits, moves, tokens, cache, position)
    return told, attention[after['sentence'], after['state']], after

  return beam_search.search_together(
    step, cache, starts, end=END, memory_length=attention.shape[2], **settings
  )


def _together(machine, attention, *, beams, **settings):
  return jax.device_get(
    _searched(
      machine.logits, machine.moves, attention, machine.cache(beams),
      _starts(machine), beams=beams, **settings,
    )
  )  # fmt: skip


def _tables(*rows):
  """A machine of one sentence: probabilities by position, whatever was said."""
  with np.errstate(divide='ignore'):
    logits = np.log(np.asarray(rows, np.float32))

  def step(tokens, cache, position):
    return jnp.broadcast_to(
      jnp.asarray(logits)[position], (tokens.shape[0], logits.shape[1])
    ), cache

  return step


def _of_tables(step, *, beams, max_length, alpha):
  found = quick.jit(
    lambda: beam_search.search(
      step, (), jnp.zeros(1, jnp.int32),
      beams=beams, end=END, max_length=max_length, alpha=alpha,
    )
  )()  # fmt: skip
  return jax.device_get(found)


class RulesTest(absltest.TestCase):
  def test_penalty_by_hand(self):
    np.testing.assert_allclose(
      beam_search.length_penalty(jnp.asarray([1, 7, 25]), 0.6),
      [1.0, 2.0**0.6, 5.0**0.6],
      rtol=1e-6,
    )

  def test_the_end_is_counted_and_a_longer_one_may_win(self):
    # Ending at once: 0.4. Ending after one more: 0.5 of 0.6, penalty 7 / 6.
    step = _tables([0.01, 0.4, 0.59], [0.01, 0.5, 0.49])
    for alpha, best in ((0.0, [1, 0]), (2.0, [2, 1])):
      found = _of_tables(step, beams=2, max_length=2, alpha=alpha)
      self.assertEqual(found.tokens[0, 0].tolist(), best)
    log_prob = np.log(0.59 * 0.5)
    np.testing.assert_allclose(
      found.scores[0, 0], log_prob / (7 / 6) ** 2, rtol=1e-5
    )

  def test_it_stops_when_nothing_alive_can_become_better(self):
    rows = [[0.05, 0.9, 0.05]] + 9 * [[0.3, 0.3, 0.4]]
    found = _of_tables(_tables(*rows), beams=2, max_length=10, alpha=0.6)
    # What lives has 0.05 at best: log 0.05 / 2.5^0.6 = -1.7 against -0.1.
    self.assertEqual(found.steps, 1)
    self.assertEqual(found.tokens[0, 0].tolist(), [1] + 9 * [0])
    self.assertEqual(found.scores[0, 1], -np.inf)
    # With a large exponent the limit makes it worth going on.
    found = _of_tables(_tables(*rows), beams=2, max_length=10, alpha=5.0)
    self.assertGreater(found.steps, 1)

  def test_where_nothing_ended_the_living_are_the_answer(self):
    step = _tables(*4 * [[0.3, 0.0, 0.7]])
    found = _of_tables(step, beams=3, max_length=4, alpha=0.6)
    self.assertEqual(found.tokens[0, 0].tolist(), [2, 2, 2, 2])
    np.testing.assert_allclose(found.scores[0, 0], 4 * np.log(0.7), rtol=1e-5)
    self.assertEqual(found.steps, 4)

  def test_an_end_among_the_second_half_of_the_candidates_counts(self):
    # Two beams, four candidates: the end is the third of the first step.
    rows = [[0.5, 0.15, 0.35], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]
    found = _of_tables(_tables(*rows), beams=2, max_length=3, alpha=0.0)
    self.assertEqual(found.tokens[0, 0].tolist(), [1, 0, 0])

  def test_a_sentence_is_searched_as_if_alone(self):
    machine = Machine(sentences=40, states=7, vocabulary=6, spread=2.0, seed=8)
    settings = {'beams': 3, 'max_length': 12, 'alpha': 0.6}
    together = _found(machine, None, **settings)
    one = Machine(sentences=1, states=7, vocabulary=6, spread=2.0, seed=8)
    steps = []
    for i in range(8):
      one.logits, one.moves = (
        machine.logits[:, i : i + 1],
        machine.moves[i : i + 1],
      )
      one.starts = machine.starts[i : i + 1]
      alone = _found(one, None, **settings)
      np.testing.assert_array_equal(alone.tokens[0], together.tokens[i])
      np.testing.assert_allclose(alone.scores[0], together.scores[i], rtol=1e-6)
      steps.append(int(alone.steps))
    self.assertLess(min(steps), together.steps)  # some were closed early

  def test_a_limit_of_nothing_finds_nothing(self):
    machine = Machine(sentences=2, states=5, vocabulary=4, spread=1.0, seed=1)
    found = _found(
      machine, np.asarray([0, 3], np.int32), beams=2, max_length=4, alpha=0.6
    )
    self.assertFalse(found.tokens[0].any())
    self.assertTrue(found.tokens[1].any())


class CacheTest(absltest.TestCase):
  def test_every_leaf_follows_its_beam(self):
    cache = {
      'a': jnp.arange(6),
      'b': jnp.arange(12.0).reshape(6, 2),
    }
    parents = jnp.asarray([[2, 0, 0], [1, 1, 2]])
    moved = quick.jit(beam_search.take_beams)(cache, parents)
    self.assertEqual(moved['a'].tolist(), [2, 0, 0, 4, 4, 5])
    np.testing.assert_array_equal(moved['b'][:, 0], 2 * moved['a'])

  def test_a_reorder_of_ones_own_is_used(self):
    seen = []

    def reorder(cache, parents):
      seen.append(parents.shape)
      return beam_search.take_beams(cache, parents)

    machine = Machine(sentences=5, states=5, vocabulary=4, spread=1.0, seed=1)
    step = functools.partial(
      Machine.step, jnp.asarray(machine.logits), jnp.asarray(machine.moves)
    )
    search = functools.partial(
      beam_search.search, step, beams=2, end=END, max_length=4, alpha=0.6,
      reorder=reorder,
    )  # fmt: skip
    found = quick.jit(search)(machine.cache(2), machine.starts)
    usual = _found(machine, None, beams=2, max_length=4, alpha=0.6)
    np.testing.assert_array_equal(found.tokens, usual.tokens)
    self.assertEqual(set(seen), {(5, 2)})


class BoundaryTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'beams': 0}, 'beams'), ({'max_length': 0}, 'max_length'),
    ({'alpha': -1.0}, 'alpha'),
  )  # fmt: skip
  def test_impossible_settings_are_refused(self, change, says):
    settings = {'beams': 2, 'max_length': 3, 'alpha': 0.6, **change}
    with self.assertRaisesRegex(ValueError, f'{says}.*got'):
      _of_tables(_tables([0.5, 0.5]), **settings)

  def test_a_vocabulary_of_one_token_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'two tokens.*got 1'):
      _of_tables(_tables([1.0]), beams=1, max_length=1, alpha=0.0)


if __name__ == '__main__':
  absltest.main()
