"""Names that people give: known, nearest, name=value; and nouns by number."""

from collections.abc import Iterable, Sequence
import difflib


def nearest(name: str, names: Iterable[str]) -> str:
  """', did you mean ...?' where one of `names` is close to `name`, else ''."""
  close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
  return f' (did you mean {close[0]!r}?)' if close else ''


def require(what: str, name: str, names: Iterable[str]) -> None:
  """ValueError, naming the nearest, unless there is a `what` of that name."""
  names = list(names)
  if name not in names:
    raise ValueError(
      f'Unknown {what} {name!r}{nearest(name, names)}; there are '
      f'{", ".join(names)}.'
    )


def assignment(flag: str, text: str) -> tuple[str, str]:
  """The name and the value of 'name=value'; ValueError for another form."""
  name, equals, value = text.partition('=')
  if not equals or not name:
    raise ValueError(f'--{flag} takes name=value, not {text!r}.')
  return name, value


def assignments(flag: str, texts: Sequence[str]) -> dict[str, str]:
  """Values by name of a flag that may be given again, each name once."""
  found: dict[str, str] = {}
  for name, value in (assignment(flag, text) for text in texts):
    if name in found:
      raise ValueError(f'--{flag} gives {name} twice.')
    found[name] = value
  return found


def counted(number: int, noun: str) -> str:
  """'no errors', '1 process', '2 processes'."""
  plural = f'{noun}es' if noun.endswith('s') else f'{noun}s'
  return f'{number or "no"} {noun if number == 1 else plural}'
