"""A line at the bottom of a terminal that is redrawn, and lines that stay."""

from typing import TextIO


class LiveLine:
  """One line at the bottom that is redrawn; left out where output is a file."""

  def __init__(self, out: TextIO):
    self._out = out
    self._live = out.isatty()

  def show(self, text: str) -> None:
    """Redraws the live line."""
    if self._live:
      print(f'\r\033[K{text}', end='', file=self._out, flush=True)

  def keep(self, text: str) -> None:
    """Prints a line that stays."""
    self.clear()
    print(text, file=self._out, flush=True)

  def clear(self) -> None:
    """Takes the live line away."""
    if self._live:
      print('\r\033[K', end='', file=self._out, flush=True)
