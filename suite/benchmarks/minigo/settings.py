"""Settings of the parts of MiniGo, from its hyperparameters."""

from models.minigo import go, self_play
from models.minigo import net as minigo
from models.minigo.tree_search.trees import Settings as TreeSettings
from suite.benchmarks.minigo.hparams import Hparams


def settings(hp: Hparams) -> self_play.Settings:
  """Settings of self-play."""
  return self_play.Settings(
    rules=_rules(hp),
    tree=_tree(hp, hp.tree_capacity),
    planes=hp.planes,
    full_readouts=hp.num_readouts,
    fast_readouts=hp.fastplay_readouts,
    fast_share=hp.fastplay_frequency,
    resign_from=hp.resign_from,
    no_resign_share=hp.disable_resign_pct,
    noise_alpha=hp.dirichlet_noise_alpha,
    early_plies=hp.softpick_plies,
    prunes=hp.target_pruning,
  )


def match_settings(hp: Hparams) -> self_play.MatchSettings:
  """Settings of the games of an eval.

  Trees are kept from move to move, so they have room for two searches.
  """
  most = max(hp.eval_readouts, hp.opponent_readouts)
  return self_play.MatchSettings(
    rules=_rules(hp),
    tree=_tree(hp, 2 * most + hp.virtual_losses - 1),
    planes=hp.planes,
    readouts=hp.eval_readouts,
    other_readouts=hp.opponent_readouts,
  )


def net_size(hp: Hparams) -> minigo.Size:
  """Size of the net."""
  return minigo.Size(
    hp.board_size,
    go.PLANES[hp.planes],
    hp.conv_width,
    hp.trunk_layers,
    hp.fc_width,
  )


def _rules(hp: Hparams) -> go.Rules:
  return go.Rules(hp.board_size, komi=hp.komi, max_plies=hp.max_plies)


def _tree(hp: Hparams, capacity: int) -> TreeSettings:
  return TreeSettings(
    capacity=capacity,
    leaves=hp.virtual_losses,
    value_init_penalty=hp.value_init_penalty,
    noise_mix=hp.dirichlet_noise_weight,
  )
