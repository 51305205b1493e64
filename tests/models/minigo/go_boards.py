"""Boards drawn as text, and the engine compiled once for each size."""

import dataclasses
import functools

import jax.numpy as jnp

from models.minigo import go
from tests import quick

STONES = {'X': go.BLACK, 'O': go.WHITE}


@functools.cache
def play(rules: go.Rules):
  return quick.jit(lambda state, action: go.play(state, action, rules))


@functools.cache
def legal(rules: go.Rules):
  return quick.jit(lambda state: go.legal(state, rules))


@functools.cache
def compiled(function, rules: go.Rules):
  return quick.jit(lambda state: function(state, rules))


def points(drawn: str) -> dict[str, int]:
  """Places of the small letters: empty points with a name."""
  flat = ''.join(drawn.split())
  return {letter: at for at, letter in enumerate(flat) if letter.islower()}


def stones(drawn: str) -> list[int]:
  """X black 1, O white -1, the rest empty 0; row by row."""
  return [STONES.get(letter, 0) for letter in ''.join(drawn.split())]


def put(state: go.State, action: int, colour: int, rules: go.Rules):
  """The state after a move of that colour, whoever's turn it is."""
  turned = dataclasses.replace(state, to_play=jnp.int32(colour))
  return play(rules)(turned, jnp.int32(action))


def drawn(text: str, rules: go.Rules, to_play: int = go.BLACK) -> go.State:
  """A game that stands as drawn, with no other position in its past."""
  state = go.initial(rules)
  for point, colour in enumerate(stones(text)):
    if colour:
      state = put(state, point, colour, rules)
  assert go.board(state).tolist() == stones(text), 'The drawing captures.'
  return dataclasses.replace(
    state,
    to_play=jnp.int32(to_play),
    ply=jnp.int32(1),
    recent=state.recent & 1,
    history=jnp.zeros_like(state.history).at[:, 0].set(state.hash),
  )


def can_play(state: go.State, action: int, rules: go.Rules) -> bool:
  return bool(legal(rules)(state)[action])
