"""Variants of MiniGo that are broken on purpose, for studies/curves.py."""

import dataclasses
from unittest import mock

import numpy as np

from input_pipelines.self_play import replay
from models.minigo import self_play
from models.minigo.self_play import records
from suite.benchmarks import broken as variants


def _no_search(hp):
  """Moves follow the priors of the net, with noise: a search has one leaf."""
  return dataclasses.replace(
    hp, num_readouts=2, fastplay_readouts=2, virtual_losses=1
  )


def _wrong_sign():
  """Trains on outcomes of the wrong sign."""
  return _with_outcomes(lambda seen: -seen.outcome)


def _of_who_plays():
  """Trains on outcomes from the player's view instead of Black's."""
  # The plane that is all ones where Black is to play.
  return _with_outcomes(
    lambda seen: seen.outcome * (2.0 * seen.planes[:, 0, 0, 8] - 1.0)
  )


def _with_outcomes(changed):
  examples = records.examples

  def broken(batch, settings):
    seen = examples(batch, settings)
    return dataclasses.replace(seen, outcome=changed(seen))

  return mock.patch.object(self_play, 'examples', broken)


def _not_shuffled():
  """Trains on positions in the order in which they were played."""
  sample = replay.Window.sample

  def broken(self):
    found = sample(self)
    return dataclasses.replace(found, chosen=np.sort(found.chosen))

  return mock.patch.object(replay.Window, 'sample', broken)


VARIANTS = {
  **variants.usual('lr_rates'),
  'values of the wrong sign': variants.within(_wrong_sign),
  'values of who is to play': variants.within(_of_who_plays),
  'no search': variants.changed(_no_search),
  'not shuffled': variants.within(_not_shuffled),
}
