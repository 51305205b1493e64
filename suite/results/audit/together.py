"""Settles the official round of a submission once, from all of its sets."""

from collections.abc import Iterable, Iterator
import dataclasses
import pathlib

from suite import files
from suite.results.audit import evidence, official, tree
from suite.results.audit.findings import WARNING, Finding
from suite.results.audit.log import Log, read

RULE = 'ruleset'


def settle(folders: Iterable[pathlib.Path]) -> official.Choice | None:
  """The ruleset of the sets in these folders; None where no one fits them.

  Of each set the first and the last log are read: when they ran, and the keys
  that they hold.
  """
  said = [evidence.of_set(folder, _ends(folder)) for folder in folders]
  return official.choose_together([each for each in said if each])


def note(found: official.Choice, place: str) -> str:
  """A line on the round of a submission."""
  text = f'{place}: ruleset {found.ruleset}, {found.chosen}'
  if found.others:
    text += f'; its sets fit {", ".join(found.others)} as well'
  return text


def contradictions(
  name: str, found: official.Choice, said: official.Evidence
) -> Iterator[Finding]:
  """Tells of a set that does not look like one of its submission's round."""
  if official.contradicts(said, found.ruleset):
    text = (
      f'expected a set of ruleset {found.ruleset} ({found.chosen}), got one'
    )
    if alone := official.choose(dataclasses.replace(said, folders=())):
      text += f', which fits {alone.ruleset} ({alone.chosen})'
    yield Finding(WARNING, name, None, text, RULE)


def _ends(folder: pathlib.Path) -> list[Log]:
  try:
    logs, _ = files.logs(folder)
  except OSError:
    return []  # the audit of the set tells of it
  paths = [path for path in logs.values() if tree.is_plain(path)]
  ends = dict.fromkeys([*paths[:1], *paths[-1:]])
  return [read(path, official.keys()) for path in ends]
