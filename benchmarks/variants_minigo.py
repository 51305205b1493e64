"""Models of MiniGo that are broken on purpose, for benchmarks/curves.py."""

import contextlib
import dataclasses
from unittest import mock

import numpy as np

from input_pipelines import replay
from models import self_play
from models.self_play import records


def _scaled_rate(factor: float):
  def change(hp):
    rates = tuple(rate * factor for rate in hp.lr_rates)
    return dataclasses.replace(hp, lr_rates=rates)

  return change, contextlib.nullcontext


def _no_search(hp):
  """A move is what the net likes best, with noise: one is looked at."""
  return dataclasses.replace(
    hp, num_readouts=2, fastplay_readouts=2, virtual_losses=1
  )


def _wrong_sign():
  """Outcomes are learnt as a win of the other one."""
  return _with_outcomes(lambda seen: -seen.outcome)


def _of_who_plays():
  """Outcomes are learnt in the view of who is to play, not of Black."""
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
  """Positions are learnt from in the order in which they were played."""
  sample = replay.Window.sample

  def broken(self):
    found = sample(self)
    return dataclasses.replace(found, chosen=np.sort(found.chosen))

  return mock.patch.object(replay.Window, 'sample', broken)


_SAME = lambda hp: hp  # noqa: E731
VARIANTS = {
  'reference': (_SAME, contextlib.nullcontext),
  'learning rate x10': _scaled_rate(10.0),
  'learning rate /10': _scaled_rate(0.1),
  'values of the wrong sign': (_SAME, _wrong_sign),
  'values of who is to play': (_SAME, _of_who_plays),
  'no search': (_no_search, contextlib.nullcontext),
  'not shuffled': (_SAME, _not_shuffled),
}
