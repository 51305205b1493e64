"""A run that a supervisor watches: its ticks as beats, its end on all ranks."""

import signal

import jax
from jax.experimental import multihost_utils

from launch.cluster.beats import Beats
from suite.run import loop


def watcher(
  inner: loop.Watcher, beats: Beats | None
) -> 'loop.Watcher | Watched':
  """`inner`, and the beats of the run beside it, if anybody watches them."""
  return Watched(inner, beats) if beats else inner


class Watched:
  """A run's watcher that also beats, and ends the run on all ranks at one tick.

  Everything else goes to `inner`.
  """

  def __init__(self, inner: loop.Watcher, beats: Beats):
    self._inner = inner
    self._beats = beats
    self._several = jax.process_count() > 1
    self.at = beats.at  # several times a tick, so with no call between

  def __getattr__(self, name):
    return getattr(self._inner, name)

  def stage(self, text: str) -> None:
    """See loop.Watcher."""
    self._beats.stage(text)
    self._inner.stage(text)

  def interrupted(self, tick: int) -> loop.Interrupted | None:
    """See loop.Watcher."""
    # JAX carries a SIGTERM to all ranks and has them agree on a tick.
    if not self._several:
      return self._inner.interrupted(tick)
    if not multihost_utils.reached_preemption_sync_point(tick):
      return None
    number = self._beats.signal or signal.SIGTERM
    return loop.Interrupted(signal.Signals(number).name, int(number))
