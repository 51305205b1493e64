"""GNU Go as a judge of legal moves and of scores, without komi."""

from studies.gnugo import gtp


class GnuGo(gtp.Engine):
  """A running GNU Go, which must be installed."""

  def __init__(self, size: int):
    super().__init__(gtp.gnugo(gtp.find()), size, komi=0)

  def legal(self, colour: int) -> list[int]:
    """Points where the colour may play, ascending, without the pass."""
    return self._points(f'all_legal {gtp.COLOURS[colour]}')

  def dead(self) -> list[int]:
    """Stones that it holds for dead, ascending."""
    return self._points('final_status_list dead')

  def _points(self, command: str) -> list[int]:
    (names,) = self.ask(command)
    found = {gtp.point(name, self.size) for name in names.split()}
    return sorted(found - {self.size**2})
