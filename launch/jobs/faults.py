"""Faults of a job, collected so that all are told at once."""

from collections.abc import Callable, Sequence
from typing import Any


class Faults(ValueError):
  """One or more faults; its text names all of them."""

  def __init__(self, texts: Sequence[str]):
    self.texts = tuple(texts)
    several = '\n  '.join([f'{len(self.texts)} faults:', *self.texts])
    super().__init__(several if len(self.texts) > 1 else self.texts[0])


def of(check: Callable[..., Any], *arguments: Any) -> list[str]:
  """Faults that a check raises as ValueError; [] where it passes."""
  try:
    check(*arguments)
  except Faults as error:
    return list(error.texts)
  except ValueError as error:
    return [str(error)]
  return []


def require_none(texts: Sequence[str]) -> None:
  """Raises Faults where there are any, each told once."""
  if texts:
    raise Faults(list(dict.fromkeys(texts)))
