"""A task cut down to two steps and one eval, for a rehearsal of a run."""

import dataclasses
import itertools

from suite.run.feed import Block, Data, Feed
from suite.run.task import Facts, Task


class Rehearsal:
  """A task whose budget is two steps and the eval after them."""

  _STEPS = 2

  def __init__(self, task: Task):
    self._task = task

  def __getattr__(self, name):
    return getattr(self._task, name)

  def blocks(self, facts: Facts) -> list[Block]:
    """See Task."""
    first = self._task.blocks(facts)[0]
    steps = min(self._STEPS, first.steps or self._STEPS)
    return [dataclasses.replace(first, steps=steps)]

  def open(self, data: Data, facts: Facts) -> Feed:
    """See Task."""
    feed = self._task.open(data, facts)
    train_block = feed.train_block
    feed.train_block = lambda *given: itertools.islice(
      train_block(*given), self._STEPS
    )
    return feed
