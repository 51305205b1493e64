"""Signs of the official round that logs are of, in them and around them.

<organisation>/systems/<system>.json describes the system of the logs in
<organisation>/results/<system>/<benchmark>: what software it ran, often named
after the month of its release, and its status, in the words of its round.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import os
import pathlib
import re
from typing import Any

from suite.hparams import Division
from suite.log_keys import STATUSES
from suite.results.audit import official, system
from suite.results.audit.log import Log

_RELEASE = re.compile(r'(?<![0-9.])(2[0-9])\.(0[1-9]|1[0-2])(?![0-9])')
_NEAR = 3  # folders around logs that may name their system
_TEXT = 10_000  # characters of a text that are looked at


def of_set(
  directory: str | os.PathLike, logs: Sequence[Log]
) -> official.Evidence | None:
  """As `of_logs`, with the names of a folder and the system's description."""
  directory = pathlib.Path(directory).resolve()
  names = [directory.name, *(path.name for path in directory.parents)]
  return of_logs(logs, names, _described(directory))


def of_logs(
  logs: Sequence[Log],
  folders: Sequence[str] = (),
  described: Mapping[str, Any] | None = None,
) -> official.Evidence | None:
  """Signs of their round in the logs of one set.

  None for logs of ours, which name their ruleset, and for logs of several
  benchmarks, which have none in common.

  Args:
    logs: those of the set, or some.
    folders: names of those that they lie in, the innermost first.
    described: fields of the description of their system, if there is one.
  """
  if not logs:
    return None
  first = logs[0]
  name = first.value('submission_benchmark')
  if not isinstance(name, str) or any(
    log.value('submission_benchmark') != name or is_ours(log) for log in logs
  ):
    return None
  optimizer = first.value('opt_name')
  status = (described or {}).get('status')
  return official.Evidence(
    name,
    (division(first) or Division.CLOSED).value,
    optimizer if isinstance(optimizer, str) else '',
    keys=frozenset({record.key for log in logs for record in log.ruled}),
    first=first.ruled,
    began_ms=[run.time_ms for log in logs if (run := log.first('run_start'))],
    folders=folders,
    released=_released([*folders[:_NEAR], *_software(described or {})]),
    new_status=status in STATUSES.values() if status else None,
  )


def _software(described: Mapping[str, Any]) -> Iterator[str]:
  """Texts of a description that name software."""
  for name in ('framework', 'other_software_stack'):
    value = described.get(name)
    parts = list(value.values()) if isinstance(value, dict) else value
    for part in parts if isinstance(parts, list) else [parts]:
      if isinstance(part, str):
        yield part[:_TEXT]


def _released(texts: Iterable[str]) -> str:
  """Day on which the newest of releases was out that are named by a month.

  'PyTorch NVIDIA Release 21.09' -> '2021-09-01'; '' where there is none.
  """
  found = {match for text in texts for match in _RELEASE.findall(text)}
  return max((f'20{year}-{month}-01' for year, month in found), default='')


def is_ours(log: Log) -> bool:
  """Returns whether a log is one of Podium."""
  return any(key.startswith('podium_') for key in log.settings)


def division(log: Log) -> Division | None:
  """The division that a log names."""
  value = log.value('submission_division')
  return next((d for d in Division if d.value == value), None)


def _described(directory: pathlib.Path) -> Mapping[str, Any]:
  """Fields of the description of the system that a folder is of; {} if none."""
  inner = directory.name
  for folder in list(directory.parents)[:_NEAR]:
    if folder.name == 'results':
      path = folder.parent / 'systems' / f'{inner}.json'
      return system.read(path).fields if path.is_file() else {}
    inner = folder.name
  return {}
