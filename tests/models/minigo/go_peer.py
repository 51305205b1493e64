"""Go in plain Python, sets and whole positions: what the engine is held to."""

import functools


@functools.cache
def neighbours(size: int) -> list[list[int]]:
  """The points beside each point, rows from the upper left."""
  found = []
  for point in range(size * size):
    row, column = divmod(point, size)
    sides = [(row - 1, column), (row + 1, column)]
    sides += [(row, column - 1), (row, column + 1)]
    found.append(
      [r * size + c for r, c in sides if 0 <= r < size and 0 <= c < size]
    )
  return found


def connected(size: int, start: int, belongs) -> set[int]:
  """Points that are reached from `start` over points that belong."""
  found, edge = {start}, [start]
  while edge:
    for point in neighbours(size)[edge.pop()]:
      if belongs(point) and point not in found:
        found.add(point)
        edge.append(point)
  return found


class Game:
  """A game; black 1, white -1, the pass is point size * size."""

  def __init__(self, size: int):
    self.size = size
    self.stones = [0] * (size * size)
    self.to_play = 1
    self.seen = {tuple(self.stones)}

  def chain(self, point: int, stones=None) -> set[int]:
    stones = self.stones if stones is None else stones
    colour = stones[point]
    return connected(self.size, point, lambda other: stones[other] == colour)

  def liberties(self, chain: set[int], stones=None) -> set[int]:
    stones = self.stones if stones is None else stones
    beside = {b for a in chain for b in neighbours(self.size)[a]}
    return {point for point in beside if stones[point] == 0}

  def after(self, point: int, colour: int) -> list[int] | None:
    """The stones after a move, or None if rules of capture forbid it."""
    if self.stones[point]:
      return None
    stones = list(self.stones)
    stones[point] = colour
    for other in neighbours(self.size)[point]:
      if stones[other] == -colour:
        chain = self.chain(other, stones)
        if not self.liberties(chain, stones):
          for dead in chain:
            stones[dead] = 0
    return stones if self.liberties(self.chain(point, stones), stones) else None

  def legal(self, colour: int | None = None) -> list[int]:
    """Points where `colour` may play, without the pass."""
    colour = colour or self.to_play
    boards = ((p, self.after(p, colour)) for p in range(self.size**2))
    return [p for p, new in boards if new and tuple(new) not in self.seen]

  def play(self, point: int) -> None:
    if point < self.size**2:
      self.stones = self.after(point, self.to_play)
      self.seen.add(tuple(self.stones))
    self.to_play = -self.to_play

  def fills_eye(self, point: int) -> bool:
    """Returns whether all stones around a point are the player's own."""
    around = neighbours(self.size)[point]
    return all(self.stones[other] == self.to_play for other in around)

  def score(self) -> int:
    """Black's area less White's, pass-alive regions credited."""
    owner = list(self.stones)
    for colour in (1, -1):
      for point in pass_alive(self.size, self.stones, colour):
        owner[point] = colour
    total, left = 0, {p for p in range(self.size**2) if not owner[p]}
    while left:
      start = next(iter(left))
      area = connected(self.size, start, lambda p: not owner[p])
      left -= area
      sides = {owner[b] for a in area for b in neighbours(self.size)[a]} - {0}
      total += len(area) * sum(sides)
    return total + sum(owner)


def pass_alive(
  size: int, stones, colour: int, *, by_liberties: bool = False
) -> set[int]:
  """Points in the regions that `colour` holds even if it always passes.

  A chain that dies takes along the regions that it borders on, or, as in the
  reference's position.cc, those that hold a liberty of it (`by_liberties`).
  """
  chains, regions = [], []
  for kind, found in ((True, chains), (False, regions)):
    left = {p for p in range(size**2) if (stones[p] == colour) == kind}
    while left:
      start = min(left)
      found.append(
        frozenset(
          connected(size, start, lambda p, k=kind: (stones[p] == colour) == k)
        )
      )
      left -= found[-1]

  def border(points):
    return {b for a in points for b in neighbours(size)[a]} - points

  def is_vital(region, chain):
    return all(p in border(chain) for p in region if not stones[p])

  alive, eyes = set(chains), set(regions)
  while True:
    kept = {
      chain
      for chain in alive
      if sum(is_vital(region, chain) for region in eyes) >= 2
    }
    dead = set(chains) - kept
    still = {
      region
      for region in eyes
      if not any(
        p in border(chain) and not (by_liberties and stones[p])
        for chain in dead
        for p in region
      )
    }
    if (kept, still) == (alive, eyes):
      break
    alive, eyes = kept, still
  found = set()
  for region in eyes:
    walls = border(region)
    if not walls <= set().union(*alive):
      continue
    inner = [
      p
      for p in region
      if not stones[p] and not walls.intersection(neighbours(size)[p])
    ]
    if walls and len(inner) <= 1:
      found |= region
  return found
