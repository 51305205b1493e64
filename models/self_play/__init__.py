"""Go games that a net plays on the device: against itself, and in matches."""

from models.self_play.evaluation import (
  Net,
  keys_of,
  on_each_device,
)
from models.self_play.games import (
  Games,
  Played,
  Tally,
  begin,
  play,
)
from models.self_play.matches import match
from models.self_play.records import Ends, Positions, examples
from models.self_play.settings import (
  BOARD_9,
  BOARD_19,
  MatchSettings,
  Settings,
  bootstrap,
)

__all__ = [
  'BOARD_9', 'BOARD_19', 'Ends', 'Games', 'MatchSettings', 'Net', 'Played',
  'Positions', 'Settings', 'Tally', 'begin', 'bootstrap', 'examples',
  'keys_of', 'match', 'on_each_device', 'play',
]  # fmt: skip
