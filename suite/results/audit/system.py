"""System descriptions: the JSON that describes what was measured."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import re
from typing import Any

from suite import files
from suite.log_keys import STATUSES
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.record import unique

FIELDS = (
  'submitter', 'division', 'status', 'system_name', 'number_of_nodes',
  'host_processors_per_node', 'host_processor_model_name',
  'host_processor_core_count', 'host_processor_vcpu_count',
  'host_processor_frequency', 'host_processor_caches',
  'host_processor_interconnect', 'host_memory_capacity', 'host_storage_type',
  'host_storage_capacity', 'host_networking', 'host_networking_topology',
  'host_memory_configuration', 'accelerators_per_node',
  'accelerator_model_name', 'accelerator_host_interconnect',
  'accelerator_frequency', 'accelerator_on-chip_memories',
  'accelerator_memory_configuration', 'accelerator_memory_capacity',
  'accelerator_interconnect', 'accelerator_interconnect_topology', 'cooling',
  'hw_notes', 'framework', 'other_software_stack', 'operating_system',
  'sw_notes',
)  # fmt: skip
DIVISIONS = ('closed', 'open')
# Counts that scores are listed by, and the least that they can be.
_COUNTS = {
  'number_of_nodes': 1,
  'host_processors_per_node': 1,
  'accelerators_per_node': 0,
}
_NEEDED = ('submitter', 'system_name')
_STRUCTURED = ('other_software_stack',)  # a text, or libraries by name
_MAX_BYTES = 1 << 20
_MAX_TEXT = 10_000  # characters of one field
_RULE = 'system description'
# '8 x NVIDIA H200', '1xCPU': how platforms are named in logs.
_PLATFORM = re.compile(r'([0-9]{1,7})\s*x\s*\S')
_PARALLEL = ('tensor_parallelism', 'pipeline_parallelism',
             'context_parallelism')  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Description:
  """One description, as far as it could be read."""

  name: str  # of the file, without .json
  fields: Mapping[str, Any]
  findings: Sequence[Finding]

  def count(self, field: str) -> int | None:
    """A field that holds a count; None where it holds none."""
    return _count(self.fields.get(field))

  @property
  def accelerators(self) -> int | None:
    """In all nodes together; None where it does not say."""
    nodes = self.count('number_of_nodes')
    each = self.count('accelerators_per_node')
    return None if nodes is None or each is None else nodes * each


def read(path: str | os.PathLike, shown: str | None = None) -> Description:
  """Reads a description; what is wrong with it is told of as file `shown`."""
  path = pathlib.Path(path)
  shown = shown or path.name
  try:
    fields = parse(path)
  except (OSError, ValueError, RecursionError) as error:
    why = str(error)
    if isinstance(error, OSError):
      why = f'cannot be read: {error.strerror}'
    return Description(path.stem, {}, [Finding(ERROR, shown, None, why, _RULE)])
  findings = [
    Finding(severity, shown, None, text, _RULE)
    for severity, text in _faults(fields)
  ]
  return Description(path.stem, fields, findings)


def status_fault(description: Description, since: str) -> str | None:
  """Fault of the status by the rules from ruleset `since` on."""
  status = description.fields.get('status')
  if not description.fields or status in STATUSES.values():
    return None
  allowed = ', '.join(map(repr, STATUSES.values()))
  return f'expected status as one of {allowed} ({since}), got {show(status)}'


def against(
  description: Description, settings: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
  """Contradictions of a log's `settings`: severities and texts."""
  fields = description.fields
  if not fields:
    return
  theirs, division = settings.get('submission_division'), fields.get('division')
  known = theirs in DIVISIONS and division in DIVISIONS
  if known and theirs != division:
    text = f'expected submission_division {division} as in the description'
    yield ERROR, f'{text}, got {theirs}'
  org, submitter = settings.get('submission_org'), fields.get('submitter')
  texts = isinstance(org, str) and isinstance(submitter, str)
  if texts and _plain(org) != _plain(submitter):
    text = f'expected submission_org to be the submitter {show(submitter)}'
    yield WARNING, f'{text}, got {show(org)}'
  expected = STATUSES.get(str(settings.get('submission_status')))
  status = fields.get('status')
  if expected and status in STATUSES.values() and status != expected:
    text = f'expected submission_status for {show(status)}'
    yield WARNING, f'{text}, got {show(settings["submission_status"])}'
  yield from _accelerators(description, settings)


def _accelerators(
  description: Description, settings: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
  count = description.accelerators
  if not count:
    return
  split = 1
  for key in _PARALLEL:
    value = settings.get(key)
    whole = isinstance(value, int) and not isinstance(value, bool)
    split *= value if whole and value > 0 else 1
  if split > count:
    text = f'expected a model split over at most {count} accelerators'
    yield ERROR, f'{text}, got {show(split)} ways by {", ".join(_PARALLEL)}'
  platform = settings.get('submission_platform')
  match = _PLATFORM.match(platform) if isinstance(platform, str) else None
  # Some count accelerators there, some nodes.
  if match and int(match[1]) not in (count, description.count(
      'number_of_nodes')):  # fmt: skip
    text = f'expected submission_platform of {count} accelerators'
    yield WARNING, f'{text}, got {show(platform)}'


def parse(path: str | os.PathLike) -> dict[str, Any]:
  """Reads the fields of a description.

  OSError where it cannot be read, ValueError where it is none.
  """
  content = files.read_bytes(path, _MAX_BYTES, links=False)
  try:
    fields = json.loads(content.decode('utf-8'), object_pairs_hook=unique)
  except UnicodeDecodeError as error:
    got = show(content[error.start : error.start + 20])
    raise ValueError(f'expected UTF-8, got {got}') from None
  except RecursionError:
    raise ValueError('expected a flat JSON object, got one too deep') from None
  except json.JSONDecodeError as error:
    raise ValueError(f'expected a JSON object, got none: {error}') from None
  if not isinstance(fields, dict):
    raise ValueError(f'expected a JSON object, got {show(fields)}')
  return fields


def _faults(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  missing = [name for name in FIELDS if name not in fields]
  if missing:
    text = f'expected the {len(FIELDS)} fields of a description, got no'
    yield ERROR, f'{text} {", ".join(missing)}'
  for name, value in fields.items():
    if name in _STRUCTURED and isinstance(value, dict | list):
      continue
    if not isinstance(value, str):
      make = ERROR if name in FIELDS else WARNING
      yield make, f'expected {show(name)} as a string, got {show(value)}'
    elif len(value) > _MAX_TEXT:
      text = f'expected {show(name)} of at most {_MAX_TEXT} characters'
      yield ERROR, f'{text}, got {len(value)}'
    elif not value.replace('\n', '').replace('\t', '').isprintable():
      text = f'expected {show(name)} without control characters'
      yield ERROR, f'{text}, got {show(value)}'
  yield from _value_faults(fields)


def _value_faults(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  for name, least in _COUNTS.items():
    value = fields.get(name)
    if not isinstance(value, str):
      continue
    count = _count(value)
    if count is None or count < least:
      text = f'expected {name} as a whole number of {least} or more'
      yield ERROR, f'{text}, got {show(value)}'
  for name in _NEEDED:
    if isinstance(fields.get(name), str) and not fields[name].strip():
      yield ERROR, f'expected a {name}, got an empty text'
  division = fields.get('division')
  if isinstance(division, str) and division not in DIVISIONS:
    text = "expected division as 'closed' or 'open', in these letters: others"
    yield ERROR, f'{text} turn checks off, got {show(division)}'


def _count(value: Any) -> int | None:
  if not isinstance(value, str) or not re.fullmatch(r'[0-9]{1,9}', value):
    return None
  return int(value)


def _plain(name: str) -> str:
  return ''.join(c for c in name.casefold() if c.isalnum())
