"""Beam search on the device: many sentences at once, each as if alone.

The search is that of the Transformer reference in mlcommons/training,
retired_benchmarks/transformer, tensorflow/transformer/model/beam_search.py. In
every step each of K hypotheses is continued by every token, and the 2 K best
continuations are kept. Those that ended are compared with what had ended
before, by score; of the others the K best live on. A score is a log probability
over the length penalty ((5 + length) / 6)^alpha, where the end is counted.

A sentence is closed when the worst of its ended hypotheses is at least what its
best living one could still score, all its log probability kept up to the
longest length. The reference asks this of all sentences together and searches
on in those that are closed; that may fill free places behind the best
hypothesis, never replace it, for nothing that ends later scores higher. Where
only the best one is wanted, a sentence may be closed by that one as well, which
is sooner.

`search_together` is that of another reference: there what has ended competes
with what has not, and only attention decides between them at the end.
"""

# B sentences, K beams, C continuations (2 K), V tokens, T places of the output,
# M places of the source.

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

# (tokens int32 [B * K], cache, position int32 []) -> (logits [B * K, V], cache)
Step = Callable[[jax.Array, Any, jax.Array], tuple[jax.Array, Any]]
# The same, which also returns weights of attention [B * K, ..., M], for a sum.
Attending = Callable[
  [jax.Array, Any, jax.Array], tuple[jax.Array, jax.Array, Any]
]
# Scores of what ended, float32 [B, K], -inf: none -> those to be beaten, [B]
Bar = Callable[[jax.Array], jax.Array]

_BLOCK = 64  # of values whose largest is taken first; see `top_k`


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Found:
  """The hypotheses of every sentence, best first.

  Where a sentence has none that ended, they are those still alive at its limit,
  and their scores are log probabilities without penalty. Where there are fewer
  than K, the rest have score -inf and no tokens.
  """

  tokens: jax.Array  # int32 [B, K, T], zeros behind the end
  scores: jax.Array  # float32 [B, K]
  steps: jax.Array  # int32 [], tokens searched until every sentence was closed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
  position: jax.Array  # int32 []
  is_open: jax.Array  # bool [B]
  last: jax.Array  # int32 [B, K], what is fed next
  alive: jax.Array  # int32 [B, K, T]
  log_probs: jax.Array  # float32 [B, K], descending; -inf: no hypothesis
  ended: jax.Array  # int32 [B, K, T]
  scores: jax.Array  # float32 [B, K], of the ended, descending; -inf: none
  cache: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Together:
  position: jax.Array  # int32 []
  is_open: jax.Array  # bool [B]
  last: jax.Array  # int32 [B, K], what is fed next; END: has ended
  tokens: jax.Array  # int32 [B, K, T]
  lengths: jax.Array  # int32 [B, K], ends included
  scores: jax.Array  # float32 [B, K]; log probabilities until it is closed
  attended: jax.Array  # float32 [B, K, M]
  cache: Any


def take_beams(cache: Any, parents: jax.Array) -> Any:
  """Leaves [B * K, ...] of which beam k becomes what `parents` [B, K] was."""
  sentences, beams = parents.shape

  def take(leaf):
    split = leaf.reshape(sentences, beams, *leaf.shape[1:])
    return _take(split, parents).reshape(leaf.shape)

  return jax.tree.map(take, cache)


def length_penalty(length: jax.Array, alpha: float) -> jax.Array:
  """((5 + length) / 6)^alpha, float32."""
  return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def worst(scores: jax.Array) -> jax.Array:
  """Lowest score of ended sequences, else -inf: [B, K] -> [B]."""
  lowest = jnp.where(jnp.isneginf(scores), jnp.inf, scores).min(axis=1)
  return jnp.where(jnp.isposinf(lowest), -jnp.inf, lowest)


def best(scores: jax.Array) -> jax.Array:
  """Highest score of ended sequences, else -inf: [B, K] -> [B]."""
  return scores[:, 0]


def top_k(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """`jax.lax.top_k` of [B, N], for N much larger than `count`.

  The largest of all are in the blocks whose own largest are the largest, so few
  values are sorted.
  """
  rows, length = values.shape
  blocks = length // _BLOCK
  if blocks <= 2 * count:
    return jax.lax.top_k(values, count)
  whole = blocks * _BLOCK  # what is behind them is sorted in any case
  in_blocks = values[:, :whole].reshape(rows, blocks, _BLOCK)
  _, chosen = jax.lax.top_k(in_blocks.max(axis=2), count)
  # In their order, so that of equal values the first is taken.
  chosen = jnp.sort(chosen, axis=1)
  places = chosen[..., None] * _BLOCK + jnp.arange(_BLOCK)[None, None]
  rest = jnp.broadcast_to(
    jnp.arange(whole, length)[None], (rows, length - whole)
  )
  places = jnp.concatenate([places.reshape(rows, -1), rest], axis=1)
  kept = jnp.concatenate(
    [_take(in_blocks, chosen).reshape(rows, -1), values[:, whole:]], axis=1
  )
  found, among = jax.lax.top_k(kept, count)
  return found, _take(places, among)


def search(
  step: Step,
  cache: Any,
  start: jax.Array,
  *,
  beams: int,
  end: int,
  max_length: int,
  alpha: float,
  limits: jax.Array | None = None,
  reorder: Callable[[Any, jax.Array], Any] = take_beams,
  bar: Bar = worst,
) -> Found:
  """The best continuations of `start` int32 [B] that `step` allows.

  `cache` is what `step` hands on to itself, for B * K hypotheses, those of a
  sentence together. After each step `reorder(cache, parents)` has beam k resume
  from beam `parents[b, k]` of its sentence. `limits` int32, [] or [B], are the
  most tokens of a sentence, its end included; without them, or above it, that
  is `max_length`. A sentence is closed when nothing alive can score more than
  `bar` of what ended: with `best`, the first hypothesis is that which `worst`
  finds, and those behind it need not be.
  """
  if beams < 1 or max_length < 1 or alpha < 0:
    raise ValueError(
      'Expected beams and max_length of at least 1 and alpha >= 0, got '
      f'{beams}, {max_length} and {alpha}.'
    )
  limits = jnp.minimum(max_length if limits is None else limits, max_length)
  limits = jnp.broadcast_to(limits, start.shape)

  def body(state):
    return _next(state, step, reorder, limits, bar, end=end, alpha=alpha)

  first = _first(cache, start, limits, beams=beams, length=max_length)
  last = jax.lax.while_loop(lambda state: state.is_open.any(), body, first)
  return _found(last)


def search_together(
  step: Attending,
  cache: Any,
  start: jax.Array,
  *,
  beams: int,
  end: int,
  max_length: int,
  alpha: float,
  coverage: float,
  memory_length: int,
) -> Found:
  """The best continuations of `start` int32 [B], ended ones among the beams.

  A hypothesis that has ended keeps its beam for as long as it is among the K
  best. A sentence is closed when all have ended; only then is each log
  probability divided by the length penalty, whose length counts the start as
  well, and `coverage` sum(log(min(attended, 1))) added, of what the hypothesis
  attended to at each of `memory_length` places; places never attended to add
  nothing. At `max_length` tokens the rest is compared by log probability.

  As in the reference, sums of attention belong to the K places and not to the
  hypotheses in them: they stay where they are when hypotheses are reordered.
  It is beam_search of mlcommons/training, retired_benchmarks/gnmt,
  pytorch/seq2seq/inference/beam_search.py.
  """
  if beams < 1 or max_length < 1 or min(alpha, coverage) < 0:
    raise ValueError(
      'Expected beams and max_length of at least 1, alpha and coverage >= 0, '
      f'got {beams}, {max_length}, {alpha} and {coverage}.'
    )
  rows, shape = start.shape[0], (start.shape[0], beams)

  def body(state):
    state = _extended(state, step, end=end)
    is_done = state.is_open & (state.last == end).all(axis=1)
    # The reference looks before a step, so not after the last one.
    is_scored = is_done & (state.position < max_length)
    scores = state.scores / length_penalty(state.lengths + 1, alpha)
    logs = jnp.log(jnp.minimum(state.attended, 1.0))
    covered = jnp.where(jnp.isneginf(logs), 0.0, logs).sum(axis=2)
    scores = jnp.where(
      is_scored[:, None], scores + coverage * covered, state.scores
    )
    return dataclasses.replace(
      state, is_open=state.is_open & ~is_done, scores=scores
    )

  first = _Together(
    position=jnp.zeros([], jnp.int32),
    is_open=jnp.ones(rows, bool),
    last=jnp.broadcast_to(start.astype(jnp.int32)[:, None], shape),
    tokens=jnp.zeros((*shape, max_length), jnp.int32),
    lengths=jnp.zeros(shape, jnp.int32),
    # One hypothesis a sentence; the other beams do not exist yet.
    scores=jnp.full(shape, -jnp.inf).at[:, 0].set(0.0),
    attended=jnp.zeros((*shape, memory_length)),
    cache=cache,
  )
  last = jax.lax.while_loop(
    lambda state: state.is_open.any() & (state.position < max_length),
    body,
    first,
  )
  scores, order = jax.lax.top_k(last.scores, beams)
  return Found(_take(last.tokens, order), scores, last.position)


def _extended(state: _Together, step, *, end: int) -> _Together:
  """All open hypotheses grown by a token; those that ended stay as they are."""
  rows, beams = state.last.shape
  logits, weights, cache = step(
    state.last.reshape(-1), state.cache, state.position
  )
  has_ended = state.last == end
  weights = weights.astype(jnp.float32).reshape(state.attended.shape)
  attended = state.attended + jnp.where(has_ended[..., None], 0.0, weights)
  log_probs, tokens = (
    each.reshape(rows, beams, beams) for each in _best_of(logits, beams)
  )
  stay = jnp.full(beams, -jnp.inf).at[0].set(0.0)[None, None]
  log_probs = jnp.where(has_ended[..., None], stay, log_probs)
  tokens = jnp.where(has_ended[..., None], end, tokens)
  grown = (state.scores[..., None] + log_probs).reshape(rows, -1)
  scores, place = jax.lax.top_k(grown, beams)
  parents = place // beams
  last = _take(tokens.reshape(rows, -1), place)
  written = jnp.where(_take(has_ended, parents), 0, last)
  after = jax.lax.dynamic_update_slice_in_dim(
    _take(state.tokens, parents), written[..., None], state.position, axis=2
  )
  lengths = _take(state.lengths + ~has_ended, parents)

  def where_open(new, old):
    return jnp.where(jnp.expand_dims(state.is_open, range(1, new.ndim)),
                     new, old)  # fmt: skip

  return _Together(
    position=state.position + 1,
    is_open=state.is_open,
    last=where_open(last, state.last),
    tokens=where_open(after, state.tokens),
    lengths=where_open(lengths, state.lengths),
    scores=where_open(scores, state.scores),
    attended=where_open(attended, state.attended),
    cache=take_beams(cache, parents),
  )


def _first(cache, start, limits, *, beams: int, length: int) -> _State:
  """One hypothesis a sentence, of no tokens; the other beams do not exist."""
  shape = (start.shape[0], beams)
  none = jnp.full(shape, -jnp.inf, jnp.float32)
  return _State(
    position=jnp.zeros([], jnp.int32),
    is_open=limits > 0,
    last=jnp.broadcast_to(start.astype(jnp.int32)[:, None], shape),
    alive=jnp.zeros((*shape, length), jnp.int32),
    log_probs=none.at[:, 0].set(0.0),
    ended=jnp.zeros((*shape, length), jnp.int32),
    scores=none,
    cache=cache,
  )


def _next(state: _State, step, reorder, limits, bar, *, end, alpha) -> _State:
  """All hypotheses grown by a token; closed sentences stay as they are."""
  beams, position = state.last.shape[1], state.position
  logits, cache = step(state.last.reshape(-1), state.cache, position)
  candidates, parents, tokens = _continue(state.log_probs, logits)
  grown = _take(state.alive, parents)
  grown = jax.lax.dynamic_update_slice_in_dim(
    grown, tokens[..., None], position, axis=2
  )
  has_ended = tokens == end
  log_probs, kept = jax.lax.top_k(
    jnp.where(has_ended, -jnp.inf, candidates), beams
  )
  scores = jnp.where(has_ended, candidates, -jnp.inf)
  scores = scores / length_penalty(position + 1, alpha)
  # The older come first, so of equal scores the older is kept.
  scores, held = jax.lax.top_k(
    jnp.concatenate([state.scores, scores], 1), beams
  )
  ended = _take(jnp.concatenate([state.ended, grown], axis=1), held)

  def where_open(new, old):
    is_open = jnp.expand_dims(state.is_open, range(1, new.ndim))
    return jnp.where(is_open, new, old)

  log_probs = where_open(log_probs, state.log_probs)
  scores = where_open(scores, state.scores)
  could = log_probs[:, 0] / length_penalty(limits, alpha)
  return _State(
    position=position + 1,
    is_open=(position + 1 < limits) & (bar(scores) < could),
    last=_take(tokens, kept),
    alive=where_open(_take(grown, kept), state.alive),
    log_probs=log_probs,
    ended=where_open(ended, state.ended),
    scores=scores,
    cache=reorder(cache, _take(parents, kept)),
  )


def _continue(log_probs: jax.Array, logits: jax.Array):
  """The 2 K best: log probabilities, beams of origin, tokens; each [B, C]."""
  sentences, beams = log_probs.shape
  vocabulary = logits.shape[-1]
  if vocabulary < 2:
    raise ValueError(
      f'Expected logits of two tokens or more, got {vocabulary}.'
    )
  count = min(2 * beams, vocabulary)
  own, tokens = _best_of(logits, count)
  own = own.reshape(sentences, beams, count)
  grown = (own + log_probs[..., None]).reshape(sentences, -1)
  candidates, place = jax.lax.top_k(grown, 2 * beams)
  tokens = _take(tokens.reshape(sentences, -1), place)
  return candidates, place // count, tokens


def _best_of(logits: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """The best of logits [N, V]: log probabilities and tokens, each [N, count].

  No more is needed of the others than the sum that makes probabilities.
  """
  logits = logits.astype(jnp.float32)
  own, tokens = top_k(logits, count)
  # In the order of tokens, so that of equal ones the first is taken.
  own, tokens = _take(own, jnp.argsort(tokens)), jnp.sort(tokens)
  highest = logits.max(axis=1, keepdims=True)
  scale = jnp.log(jnp.exp(logits - highest).sum(axis=1, keepdims=True))
  return own - highest - scale, tokens


def _found(state: _State) -> Found:
  any_ended = ~jnp.isneginf(state.scores[:, :1])
  scores = jnp.where(any_ended, state.scores, state.log_probs)
  tokens = jnp.where(any_ended[..., None], state.ended, state.alive)
  exists = ~jnp.isneginf(scores)[..., None]
  return Found(jnp.where(exists, tokens, 0), scores, state.position)


def _take(values: jax.Array, places: jax.Array) -> jax.Array:
  """values [B, N, ...], places [B, M] -> [B, M, ...]."""
  return jax.vmap(lambda row, place: row[place])(values, places)
