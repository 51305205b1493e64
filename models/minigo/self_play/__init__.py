"""Go games on the device: a net against itself, and matches."""

from models.minigo.self_play.evaluation import Net, keys_of, on_each_device
from models.minigo.self_play.games import Games, Played, Tally, begin, play
from models.minigo.self_play.matches import (
  Player,
  match,
  moved,
  of_net,
  planted,
  searched,
)
from models.minigo.self_play.playouts import player as of_playouts
from models.minigo.self_play.records import Ends, Positions, examples
from models.minigo.self_play.settings import (
  MatchSettings,
  Settings,
  bootstrap,
)

__all__ = [
  'Ends', 'Games', 'MatchSettings', 'Net', 'Played', 'Player', 'Positions',
  'Settings', 'Tally', 'begin', 'bootstrap', 'examples', 'keys_of', 'match',
  'moved', 'of_net', 'of_playouts', 'on_each_device', 'planted', 'play',
  'searched',
]  # fmt: skip
