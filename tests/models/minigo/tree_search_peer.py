"""A game without an idea, and its tree search in plain Python for one game.

The search is written from the formulas, with nodes that are objects, and does
one thing after the other; float32 throughout, as the device has it.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from models.minigo.tree_search import trees

_F = np.float32


@dataclasses.dataclass(frozen=True)
class Toy:
  """States are 32 bits and a ply; everything else is hashed from them.

  The same functions serve numpy and jax. One state in `ending` is the end of
  the game, and so is every state of `limit` plies; both are numbers of a game.
  """

  actions: int = 5

  def play(self, states, actions):
    mixed = states['bits'] * 0x1E3779B1 + (actions.astype('uint32') + 1) * 97
    return {**states, 'bits': _mix(mixed), 'ply': states['ply'] + 1}

  def legal(self, states):
    # Two of three moves, and always the last.
    return (self._hash(states, 1) % 3 > 0) | self._is_last(states)

  def is_over(self, states):
    ended = _mix(states['bits'] + 5) % states['ending'] == 0
    return (ended & (states['ply'] > 0)) | (states['ply'] >= states['limit'])

  def value_at_end(self, states):
    return (_mix(states['bits'] + 7) % 3).astype('float32') - 1

  def to_play(self, states):
    return 1 - 2 * (states['ply'] % 2)

  def evaluate(self, states):
    logits = (self._hash(states, 2) % 4096).astype('float32') / 700
    values = (_mix(states['bits'] + 11) % 4096).astype('float32') / 2048 - 1
    return logits, values

  def game(self) -> trees.Game:
    return trees.Game(
      play=self.play,
      legal=self.legal,
      is_over=self.is_over,
      value_at_end=self.value_at_end,
      to_play=self.to_play,
    )

  def start(self, seeds, ending=9, limit=12):
    """States [B] of games that begin differently, in numpy."""
    seeds = np.asarray(seeds, np.uint32)
    return {
      'bits': _mix(seeds * 7919 + 1),
      'ply': np.zeros(seeds.shape, np.int32),
      'ending': np.broadcast_to(np.uint32(ending), seeds.shape).copy(),
      'limit': np.broadcast_to(np.int32(limit), seeds.shape).copy(),
    }

  def _columns(self, states):
    like = states['bits'][:, None] * 0
    numpy = isinstance(states['bits'], np.ndarray)
    library = np if numpy else jnp
    return like + library.arange(self.actions, dtype='uint32')[None]

  def _is_last(self, states):
    return self._columns(states) == self.actions - 1

  def _hash(self, states, salt):
    columns = self._columns(states)
    return _mix(states['bits'][:, None] * 31 + columns * 1009 + salt)


def _mix(bits):
  for shift, factor in ((16, 0x7FEB352D), (15, 0x446CA68B)):
    bits = (bits ^ (bits >> shift)) * factor
  return bits ^ (bits >> 16)


class Node:
  """A position; what its parent keeps of it is kept here."""

  def __init__(self, toy, state, parent=None, move=None, total=0):
    self.toy, self.state, self.parent, self.move = toy, state, parent, move
    self.sign = int(toy.to_play(state)[0])
    self.over = bool(toy.is_over(state)[0])
    self.n, self.w, self.lost = 0, _F(total), 0
    self.expanded = False
    self.children = {}
    self.p, self.start, self.legal = None, None, None

  def w_now(self):
    """With what waiting leaves are feared to lose."""
    return _F(self.w + _F(self.lost * self.sign))

  def q(self):
    return _F(self.w / _F(1 + self.n))

  def n_of(self, move):
    return self.children[move].n if move in self.children else 0

  def q_of(self, move):
    if move in self.children:
      child = self.children[move]
      return _F(child.w_now() / _F(1 + child.n))
    return self.start

  def score(self, move, reads):
    if not self.legal[move]:
      return _F(-1000)
    u = u_scale(self.n) * _F(math.sqrt(reads)) * self.p[move]
    return _F(self.sign * self.q_of(move) + _F(u / _F(1 + self.n_of(move))))

  def line(self):
    node = self
    while node is not None:
      yield node
      node = node.parent


def u_scale(n):
  return _F(2 * (math.log((1 + n + 19652) / 19652) + 1.25))


class Search:
  """One game's tree."""

  def __init__(self, toy, state, settings: trees.Settings):
    self.toy, self.settings = toy, settings
    self.root = Node(toy, state)
    self.target, self.noise = 0, None
    # The smallest lead by which a move was preferred to one that is not equal.
    self.closest = math.inf

  def aim(self, readouts, noise=None):
    self.target = min(self.root.n + readouts, self.settings.most_reads)
    self.noise = noise

  def clear(self):
    self.root = Node(self.toy, self.root.state)

  def grow(self):
    """A round."""
    root = self.root
    if root.n >= self.target:
      return
    if self.noise is not None and root.expanded:
      self._mix_noise()
    queue = []
    for _ in range(self.settings.attempts or 2 * self.settings.leaves):
      leaf = self._descend()
      if leaf.over:
        self._back_up(leaf, self.toy.value_at_end(leaf.state)[0])
      else:
        queue.append(leaf)
        for node in leaf.line():
          node.lost += 1
        if leaf is root:
          break
      if len(queue) == self.settings.leaves or root.n >= self.target:
        break
    for leaf in queue:
      if not leaf.expanded:
        self._expand(leaf)
      for node in leaf.line():
        node.lost -= 1

  def run(self):
    while self.root.n < self.target:
      self.grow()

  def advance(self, move):
    root = self.root
    child = root.children.get(move)
    if child is None:
      child = self._make(root, move)
    child.parent = None
    self.root, self.target, self.noise = child, 0, None

  def visits(self):
    return [self.root.n_of(move) for move in range(self.toy.actions)]

  def nodes(self):
    found, stack = [], [self.root]
    while stack:
      found.append(stack.pop())
      stack.extend(found[-1].children.values())
    return found

  def _make(self, node, move):
    state = self.toy.play(node.state, np.asarray([move]))
    total = node.start if node.expanded else _F(0)
    return Node(self.toy, state, node, move, total)

  def _descend(self):
    node = self.root
    while node.expanded:
      scores = [
        node.score(move, max(1, node.n - 1)) for move in range(self.toy.actions)
      ]
      if not self.settings.may_pass:
        scores[-1] = _F(-100000)
      move = int(np.argmax(scores))
      leads = [scores[move] - score for score in scores]
      self.closest = min([self.closest, *(lead for lead in leads if lead > 0)])
      if not node.legal[move]:
        move = self.toy.actions - 1
      if move not in node.children:
        node.children[move] = self._make(node, move)
      node = node.children[move]
    return node

  def _expand(self, leaf):
    logits, values = self.toy.evaluate(leaf.state)
    leaf.legal = self.toy.legal(leaf.state)[0]
    weights = np.exp(logits[0] - logits[0].max()) * leaf.legal
    leaf.p = (weights / weights.sum()).astype(_F)
    start = values[0] - _F(self.settings.value_init_penalty) * leaf.sign
    leaf.start = _F(np.clip(start, -1, 1))
    leaf.expanded = True
    self._back_up(leaf, values[0])

  def _back_up(self, leaf, value):
    for node in leaf.line():
      node.n += 1
      node.w = _F(node.w + _F(value))

  def _mix_noise(self):
    root, mix = self.root, self.settings.noise_mix
    noise = self.noise * root.legal
    if noise.sum() > 0:
      noise = noise / noise.sum()
    root.p = ((1 - mix) * root.p + mix * noise).astype(_F)
    self.noise = None
