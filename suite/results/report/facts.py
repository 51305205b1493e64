"""Facts and settings of runs, each once unless the runs disagree about it."""

from collections.abc import Mapping, Sequence
import dataclasses
import shlex
import statistics

from suite.results import records
from suite.results.records import RunRecord
from suite.results.report import format as fmt
from suite.results.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Entry:
  """A named fact about the runs."""

  name: str
  value: str
  varies: bool  # whether the runs disagree about it


@dataclasses.dataclass(frozen=True)
class Setting:
  """A hyperparameter."""

  name: str
  value: str
  reference: str
  key: str
  tunable: bool
  help: str
  changed: bool


def system_line(system: Mapping) -> str:
  """The system in a few words."""
  words = []
  accelerator = system.get('accelerator')
  if accelerator and str(accelerator).lower() != 'cpu':
    words.append(f'{system.get("devices", 1)} \u00d7 {accelerator}')
  processor = system.get('processor') or system.get('cpu')
  if processor:
    words.append(str(processor))
  if system.get('cores'):
    words.append(f'{system["cores"]} cores')
  return ', '.join(words) or fmt.plain(accelerator)


def section(record: RunRecord, name: str) -> Mapping:
  """The facts of a section of a record by name: system, versions or data."""
  return records.plain(getattr(record, name))


def entries(runs: Sequence[Run], name: str) -> list[Entry]:
  """A section of the results, each fact once unless the runs disagree."""
  facts = [section(run.result, name) for run in runs]
  found = []
  for key in dict.fromkeys(key for fact in facts for key in fact):
    texts = [fmt.plain(fact.get(key)) for fact in facts]
    value, varies = _agreed(runs, texts)
    found.append(Entry(_spelled(key), value, varies))
  return found


def _spelled(name: str) -> str:
  """A JSON name in words: memory_gb -> memory (GB)."""
  for unit in ('GB', 'GiB'):
    name = name.replace(f'_{unit.lower()}', f' ({unit})')
  return name.replace('_', ' ')


def _agreed(runs: Sequence[Run], texts: Sequence[str]) -> tuple[str, bool]:
  """The one text, or every text with the runs that it holds for."""
  groups: dict[str, list[str]] = {}
  for run, text in zip(runs, texts, strict=True):
    groups.setdefault(text, []).append(run.label)
  if len(groups) == 1:
    return texts[0], False
  return '; '.join(f'{t} ({", ".join(r)})' for t, r in groups.items()), True


def settings(runs: Sequence[Run]) -> list[Setting]:
  """All hyperparameters, those that differ from the reference first."""
  all_of = [run.result.hyperparameters for run in runs]
  found = []
  for name in dict.fromkeys(name for settings in all_of for name in settings):
    held = [settings[name] for settings in all_of if name in settings]
    first = held[0]
    changed = any(
      item.reference is not None and item.value != item.reference
      for item in held
    )
    texts = [
      fmt.plain(settings[name].value) if name in settings else fmt.NOTHING
      for settings in all_of
    ]
    found.append(
      Setting(
        name=name,
        value=_agreed(runs, texts)[0],
        reference=fmt.plain(first.reference),
        key=fmt.plain(first.key),
        tunable=first.tunable,
        help=first.help,
        changed=changed,
      )
    )
  return sorted(found, key=lambda setting: not setting.changed)


def preflight(found: Mapping) -> list[tuple[str, str]]:
  """Findings of the preflight: name and text of every part."""
  rows = []
  speeds = [device['tflops'] for device in found.get('devices') or ()]
  if speeds:
    middle = statistics.median(speeds)
    rows.append((
      'matrix product',
      f'{len(speeds)} devices: slowest {min(speeds):.3g}, median {middle:.3g}, '
      f'fastest {max(speeds):.3g} TFLOP/s',
    ))  # fmt: skip
  rows += [('straggler', text) for text in found.get('stragglers', ())]
  parts = (('all-reduce', 'all_reduce'), ('disk', 'disk'), ('clocks', 'clock'))
  rows += [(name, found[key]['text']) for name, key in parts if key in found]
  if found.get('left_out'):
    rows.append(('left out for lack of time', ', '.join(found['left_out'])))
  return rows


def command(words: Sequence[object]) -> str:
  """A command as it can be pasted into a shell."""
  return shlex.join(str(word) for word in words)
