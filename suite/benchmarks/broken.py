"""Variants that all benchmarks share.

A variant is a change of the hyperparameters, and a context to train in: the
models that are broken on purpose, for studies/curves.py, and the one that is
not.
"""

from collections.abc import Callable
import contextlib
import dataclasses
from typing import Any

from suite import hparams

Change = Callable[[Any], Any]  # hyperparameters -> hyperparameters
Context = Callable[[], contextlib.AbstractContextManager]
Variant = tuple[Change, Context]


def within(context: Context) -> Variant:
  """The hyperparameters as they are, trained in a context."""
  return (lambda hp: hp), context


def changed(change: Change) -> Variant:
  """Other hyperparameters, trained as ever."""
  return change, contextlib.nullcontext


def usual(rate: str) -> dict[str, Variant]:
  """The reference, and the hyperparameter `rate` times and over ten."""
  return {
    'reference': within(contextlib.nullcontext),
    'learning rate x10': changed(_scaled(rate, 10.0)),
    'learning rate /10': changed(_scaled(rate, 0.1)),
  }


def _scaled(name: str, factor: float) -> Change:
  """With a number, or all of a tuple, times `factor`."""

  def change(hp):
    value = hparams.each(getattr(hp, name), lambda rate: factor * rate)
    return dataclasses.replace(hp, **{name: value})

  return change
