"""Go on the device: rules, area and feature planes of one game, for `vmap`."""

from models.minigo.go.area import forbidden, pass_alive, score, settle, winner
from models.minigo.go.game import (
  BLACK,
  WHITE,
  Rules,
  State,
  board,
  initial,
  is_over,
  legal,
  play,
)
from models.minigo.go.planes import PLANES, agz, mlperf07

__all__ = [
  'BLACK', 'PLANES', 'WHITE', 'Rules', 'State', 'agz', 'board', 'forbidden',
  'initial', 'is_over', 'legal', 'mlperf07', 'pass_alive', 'play', 'score',
  'settle', 'winner',
]  # fmt: skip
