"""Submissions: results laid out as the official checkers expect them.

<submitter>/systems/<system>.json
<submitter>/results/<system>/<benchmark>/result_<i>.txt
<submitter>/benchmarks/<benchmark>/README.md and the source

Results that are not official (size tiny, say) go into folders named
<benchmark>-<size>, which no official tool takes for the benchmark, under a file
UNOFFICIAL.md that says so.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import tempfile
from typing import Any

from suite import benchmark as benchmark_lib
from suite import files, names
from suite.log_keys import STATUSES
from suite.results import audit, records
from suite.results.audit import rounds
from suite.results.audit import system as descriptions
from suite.results.audit.claim import Lookup
from suite.results.audit.findings import printable
from suite.results.records import RunRecord

# Copies the source to a folder, and says in a sentence which source it is.
Source = Callable[[str], str]

_FOLDER = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,100}')
# Facts that runs of one description must share.
_HARDWARE = (
  'processor', 'cores', 'accelerator', 'platform', 'devices', 'processes',
)  # fmt: skip
_STACK = ('jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy',
          'libtpu', 'podium-bench')  # fmt: skip
_UNOFFICIAL = """# Not an official benchmark

The results in this folder are of {names}: smaller tasks of Podium's own, with
targets of their own. They are laid out like a submission, but are none. They
must not be compared with results of MLPerf, nor be called by that name.
"""


@dataclasses.dataclass(frozen=True)
class Result:
  """One folder of runs, audited, and what its runs recorded."""

  directory: pathlib.Path
  checked: audit.SetAudit
  records: Mapping[int, RunRecord]  # of the runs that have one

  @property
  def first(self) -> audit.LogAudit:
    """The first run's audit."""
    return next(iter(self.checked.runs.values()))

  @property
  def official(self) -> bool:
    """Returns whether all runs are of an official benchmark."""
    return all(run.claim.official for run in self.checked.runs.values())

  @property
  def folder(self) -> str:
    """The name of its folder in a submission."""
    name = self.checked.name
    return name if self.official else f'{name}-{self.first.claim.size_name}'

  def setting(self, key: str) -> Any:
    """Value of a key in the logs; they have been found to agree."""
    return self.first.log.value(key)


def gather(
  directory: str | os.PathLike, *, get: Lookup = benchmark_lib.get
) -> Result:
  """Audits a folder of runs; ValueError where it holds none."""
  directory = pathlib.Path(directory)
  checked = audit.examine_runs(directory, get)
  found = {}
  for run in checked.runs:
    path = files.record_path(str(directory), run)
    if os.path.exists(path):
      found[run] = records.read_run(path)
  return Result(directory, checked, found)


def require_alike(results: Sequence[Result], *, unofficial: bool) -> None:
  """ValueError unless all results may stand in one submission."""
  folders: dict[str, pathlib.Path] = {}
  for result in results:
    if not _FOLDER.fullmatch(result.folder):
      raise ValueError(
        f'Expected runs of one benchmark in {result.directory}, got '
        f'{result.folder!r}.'
      )
    other = folders.setdefault(result.folder, result.directory)
    if other is not result.directory:
      raise ValueError(
        f'Expected one result of each benchmark, got two of {result.folder}: '
        f'{other} and {result.directory}.'
      )
  divisions = {result.setting('submission_division') for result in results}
  if len(divisions) > 1:
    raise ValueError('Expected results of one division, got Open and Closed.')
  if len({result.official for result in results}) > 1:
    raise ValueError('Expected official results alone, got others beside them.')
  if not results[0].official and not unofficial:
    raise ValueError(
      f'{", ".join(folders)}: not official benchmarks, and no submission. '
      '--unofficial lays them out anyway, in a folder that says so.'
    )
  if results[0].official and not rounds.common(folders):
    raise ValueError(f'No round has all of {", ".join(folders)}.')


def describe(
  results: Sequence[Result],
  given: Mapping[str, str],
  *,
  submitter: str,
  name: str,
) -> dict[str, str]:
  """The description of the system, from what its runs recorded and `given`.

  ValueError naming every field that neither knows, or an unknown one.
  """
  for field in given:
    names.require('field', field, descriptions.FIELDS)
  status = STATUSES.get(results[0].setting('submission_status'))
  known = {
    **_known(*_hardware(results)),
    'submitter': submitter,
    'system_name': name,
    'division': results[0].setting('submission_division'),
    'status': status,
    'hw_notes': '',
    'sw_notes': '' if results[0].official else 'Not an official benchmark.',
    **given,
  }
  missing = [f for f in descriptions.FIELDS if known.get(f) is None]
  if missing:
    raise ValueError(
      f'{len(missing)} fields of the system description are not known from the '
      f'runs: {", ".join(missing)}. Give them in a JSON file, as strings, with '
      '--description=FILE, or each as --field=NAME=VALUE; an empty value says '
      'that there is nothing to say.'
    )
  return {field: str(known[field]) for field in descriptions.FIELDS}


def write(
  output: str,
  results: Sequence[Result],
  description: Mapping[str, str],
  source: Source,
  *,
  system: str,
  get: Lookup = benchmark_lib.get,
) -> audit.FolderAudit:
  """Writes a submission to `output`, which must not be there, and audits it.

  It is put in place when it is whole and free of errors, else not at all.
  `system` names its folder and its description.
  """
  if os.path.lexists(output):
    raise ValueError(f'{output} is there already; nothing is overwritten.')
  if not _FOLDER.fullmatch(system):
    raise ValueError(
      f'Expected letters, digits, dots and dashes in --system, got {system!r}.'
    )
  parent = os.path.dirname(os.path.abspath(output))
  os.makedirs(parent, exist_ok=True)
  prefix = f'{os.path.basename(os.path.abspath(output))}.partial.'
  partial = tempfile.mkdtemp(prefix=prefix, dir=parent)
  try:
    organisation = _organisation(description['submitter'])
    root = pathlib.Path(partial, organisation)
    _fill(root, results, description, source, system)
    found = audit.examine(partial, get=get, ruleset=_ruleset(results))
    if not audit.errors(found.findings):
      os.chmod(partial, 0o755)
      os.rename(partial, output)
    return found
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _fill(
  root: pathlib.Path,
  results: Sequence[Result],
  description: Mapping[str, str],
  source: Source,
  system: str,
) -> None:
  (root / 'systems').mkdir(parents=True)
  files.write_json(str(root / 'systems' / f'{system}.json'), description)
  if not results[0].official:
    names = ', '.join(result.folder for result in results)
    files.write_text(
      str(root / 'UNOFFICIAL.md'), _UNOFFICIAL.format(names=names)
    )
  for result in results:
    logs = root / 'results' / system / result.folder
    logs.mkdir(parents=True)
    for run in result.checked.runs.values():
      name = run.log.name
      shutil.copyfile(
        result.directory / name, logs / name, follow_symlinks=False
      )
    code = root / 'benchmarks' / result.folder
    code.mkdir(parents=True)
    which = source(str(code / 'podium'))
    files.write_text(str(code / 'README.md'), _readme(result, system, which))


def _readme(result: Result, system: str, source: str) -> str:
  claim = result.first.claim
  commands = [shlex.join(record.command) for record in result.records.values()]
  data = next((r.data for r in result.records.values()), None)
  lines = [
    f'# {result.folder} on {system}',
    '',
    f'{len(result.checked.runs)} runs of {claim.name}, size {claim.size_name}, '
    f'ruleset {result.checked.ruleset}, made with Podium.',
    '' if result.official else '\nThis is not an official benchmark.\n',
    '## Source',
    '',
    f'`podium/` holds {source}',
    '',
    '## Data set',
    '',
    printable(f'{data.name}, fingerprint {data.fingerprint}').replace('`', "'")
    if data
    else 'Not recorded.',
    '',
    '## Commands',
    '',
    'Each in a process of its own, in the folder `podium/`:'
    if commands
    else 'They were not recorded.',
    '',
    *('    ' + printable(command) for command in commands),
  ]
  return '\n'.join(lines) + '\n'


def _hardware(
  results: Sequence[Result],
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
  """System and versions of the first record; ValueError if others differ."""
  first = None
  for result in results:
    for run, record in result.records.items():
      first = first or record
      for name in _HARDWARE:
        ours, theirs = record.system.get(name), first.system.get(name)
        if ours != theirs:
          raise ValueError(
            f'Expected runs on one system, got {name} {ours!r} in run {run} of '
            f'{result.directory}, and {theirs!r} elsewhere.'
          )
  return (first.system, first.versions) if first else ({}, {})


def _known(
  system: Mapping[str, Any], versions: Mapping[str, Any]
) -> dict[str, str | None]:
  """The fields that a record answers; None for those that it does not."""
  if not system:
    return {}
  nodes = 1 if system.get('processes') == 1 else None
  sockets = system.get('sockets')
  stack = [f'{name} {versions[name]}' for name in _STACK if name in versions]
  fields = {
    'number_of_nodes': nodes,
    'host_processors_per_node': sockets,
    'host_processor_model_name': system.get('processor'),
    'host_processor_core_count': _share(system.get('physical_cores'), sockets),
    'host_processor_vcpu_count': _share(system.get('cores'), sockets),
    'host_processor_frequency': _with(system.get('max_mhz'), 'MHz'),
    'host_processor_caches': system.get('caches'),
    'host_memory_capacity': _with(system.get('memory_gib'), 'GiB'),
    'host_storage_type': system.get('storage'),
    'host_storage_capacity': _with(system.get('storage_gib'), 'GiB'),
    'framework': _with('JAX', versions.get('jax')),
    'other_software_stack': ', '.join(stack),
    'operating_system': ', '.join(
      system[name]
      for name in ('distribution', 'operating_system')
      if isinstance(system.get(name), str)
    )
    or None,
    **_accelerator(system, nodes),
  }
  return {n: None if v is None else str(v) for n, v in fields.items()}


def _accelerator(
  system: Mapping[str, Any], nodes: int | None
) -> dict[str, Any]:
  if system.get('platform') == 'cpu':
    names = [f for f in descriptions.FIELDS if f.startswith('accelerator')]
    return {**dict.fromkeys(names, ''), 'accelerators_per_node': 0}
  lanes = system.get('accelerator_pcie_lanes')
  generation = system.get('accelerator_pcie_generation')
  pcie = f'PCIe Gen{generation} x{lanes}' if generation and lanes else None
  return {
    'accelerators_per_node': system.get('devices') if nodes else None,
    'accelerator_model_name': system.get('accelerator_model')
    or system.get('accelerator'),
    'accelerator_host_interconnect': pcie,
    'accelerator_frequency': system.get('accelerator_clock'),
    'accelerator_memory_capacity': system.get('accelerator_memory'),
  }


def _share(count: Any, sockets: Any) -> int | None:
  return count // sockets if count and sockets else None


def _with(first: Any, second: Any) -> str | None:
  return None if first is None or second is None else f'{first} {second}'


def _ruleset(results: Sequence[Result]) -> str | None:
  rulesets = {result.checked.ruleset for result in results}
  return rulesets.pop() if len(rulesets) == 1 else None


def _organisation(submitter: str) -> str:
  name = re.sub(r'[^A-Za-z0-9._-]+', '_', submitter).strip('._-')
  if not _FOLDER.fullmatch(name):
    raise ValueError(f'Expected a name of a submitter, got {submitter!r}.')
  return name
