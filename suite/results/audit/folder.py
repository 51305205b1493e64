"""Audits a whole submission: its folders, and that its parts agree.

<organisation>/systems/<system>.json
<organisation>/results/<system>/<benchmark>/result_<i>.txt
<organisation>/benchmarks/<benchmark>/...

with `strong` and `weak` between system and benchmark where scaling is told
apart. A file that is to change a score from within a submission (scaling.json)
is never used, and a fault where it holds another factor than the logs give.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import os
import pathlib
import re

from suite import benchmark as benchmark_lib
from suite import files
from suite.results.audit import (
  compared,
  factor,
  official,
  one,
  rounds,
  runs,
  system,
  together,
  tree,
)
from suite.results.audit.claim import Lookup
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.kept import Kept, kept_of
from suite.results.audit.power import check as check_power
from suite.results.convergence import store

LOG, SET, SETS = 'log', 'set', 'sets'
SUBMISSION, DESCRIPTION = 'submission', 'description'

_LOGS = re.compile(r'result.*\.(txt|log)', re.DOTALL)
_KEPT = re.compile(r'result.*\.(txt|log)(\.gz)?', re.DOTALL | re.IGNORECASE)
_PARTS = ('systems', 'results', 'benchmarks')
_SCALINGS = ('strong', 'weak')
_PARAMS = 'package_checker_params'
_MAX_PARAMS = 1 << 16  # bytes
_BESIDE = re.compile(r'(README|LICENSE|NOTICE|UNOFFICIAL).*|.*\.(md|pdf)')
_STRUCTURE = 'structure'


@dataclasses.dataclass(frozen=True)
class FolderAudit:
  """Result of the audit of a submission."""

  findings: Sequence[Finding]
  notes: Sequence[str]  # a line for every set of runs


def examine(
  path: str | os.PathLike,
  get: Lookup = benchmark_lib.get,
  *,
  ruleset: str | None = None,
  tell: Callable[[str], None] = lambda text: None,
) -> FolderAudit:
  """Audits whatever lies at a path, and finds out by itself what that is.

  A log, a system description (.json), a folder of runs, a folder of such
  folders, or a submission of one or several organisations. `ruleset` is the
  official one that the logs are held to, by default the one that each fits;
  `tell` is told what is being read. ValueError for an unknown ruleset.
  """
  path = pathlib.Path(path)
  what = kind(path)
  if what == SUBMISSION:
    return _submission(path, get, ruleset, tell)
  if what == DESCRIPTION:
    return FolderAudit(system.read(path).findings, ())
  if what == LOG:
    tell(path.name)
    return FolderAudit(one.examine_log(path, get, ruleset).findings, ())
  if what == SET:
    checked = runs.examine_set(path, get, ruleset=ruleset, tell=tell)
    return FolderAudit(checked.findings, (note(checked, _shown(path)),))
  return _sets(path, get, ruleset, tell)


def kind(path: str | os.PathLike) -> str:
  """Kind of what lies at a path: one of the constants above."""
  path = pathlib.Path(path)
  if not path.is_dir():
    return DESCRIPTION if path.suffix == '.json' else LOG
  if _holds_logs(path):
    return SET
  inside = [child for child in _children(path) if _is_folder(child)]
  if _is_organisation(path) or any(map(_is_organisation, inside)):
    return SUBMISSION
  return SETS if any(map(_holds_logs, inside)) else SET


def _shown(path: pathlib.Path) -> str:
  """The name of a folder, also where it is given as '.' or '..'."""
  return path.name if path.name not in ('', '..') else path.resolve().name


def _submission(root, get, ruleset, tell) -> FolderAudit:
  """Audits one organisation's submission, or those of several in a folder."""
  audit = _Audit(tree.scan(root), get, ruleset, tell)
  if _is_organisation(pathlib.Path(root)):
    audit.organisation('')
  else:
    for folder in audit.tree.subfolders(''):
      if _is_organisation(audit.tree.root / folder):
        audit.organisation(folder)
  audit.across()
  return FolderAudit([*audit.tree.findings, *audit.findings], audit.notes)


def note(checked: runs.SetAudit, place: str) -> str:
  """A line on a set of runs: what it is and what was compared."""
  text = f'{place}: {len(checked.runs)} runs of {checked.name or "?"}'
  text += f', ruleset {checked.ruleset or "unknown"}'
  known = checked.runs, checked.name, checked.benchmark
  if others := compared.alternatives(*known):
    text += f' ({others})'
  names = [audit.log.name for audit in checked.runs.values()]
  if names and names[0] != 'result_0.txt':
    text += f', {names[0]} to {names[-1]}'
  verdict = checked.compared.verdict
  return f'{text}. {verdict}' if verdict else text


def _sets(path, get, ruleset, tell) -> FolderAudit:
  """Folders of runs beside each other, not compared with each other."""
  findings, notes = [], []
  for folder in filter(_holds_logs, filter(_is_folder, _children(path))):
    checked = runs.examine_set(folder, get, ruleset=ruleset, tell=tell)
    findings += _placed(checked.findings, folder.name, folder.name)
    notes.append(note(checked, folder.name))
  return FolderAudit(findings, notes)


def _placed(
  findings: Sequence[Finding], path: str, name: str
) -> Iterator[Finding]:
  """The findings of a folder, with its path instead of its name."""
  for finding in findings:
    file = path if finding.file == name else f'{path}/{finding.file}'
    yield dataclasses.replace(finding, file=file)


def _children(path: pathlib.Path) -> list[pathlib.Path]:
  try:
    return sorted(path.iterdir())
  except OSError:
    return []  # the audit tells of it


def _is_folder(path: pathlib.Path) -> bool:
  return path.is_dir() and not path.is_symlink()


def _is_organisation(path: pathlib.Path) -> bool:
  return any(os.path.lexists(path / part) for part in ('systems', 'results'))


def _holds_logs(path: pathlib.Path) -> bool:
  return any(_KEPT.fullmatch(child.name) for child in _children(path))


class _Audit:
  """The audit of one tree, part by part."""

  def __init__(
    self,
    listed: tree.Tree,
    get: Lookup,
    ruleset: str | None,
    tell: Callable[[str], None],
  ):
    self.tree = listed
    self.findings: list[Finding] = []
    self.notes: list[str] = []
    self._get = get
    self._ruleset = ruleset
    self._tell = tell
    self._sets: list[Kept] = []
    self._round: official.Choice | None = None

  def organisation(self, org: str) -> None:
    """Audits what one organisation hands in."""
    self._layout(org)
    self._params(org)
    described = self._descriptions(org)
    self._round = self._settled(org)
    results = _join(org, 'results')
    systems = self.tree.subfolders(results)
    if not systems:
      text = 'expected results/<system>/<benchmark>/result_<i>.txt, got none'
      self._error(org or '.', text, _STRUCTURE)
    for path in self.tree.children(results):
      if path not in systems:
        self._unknown(path, 'a folder of results for each system')
    official = self._benchmarks(systems)
    for path in systems:
      self._system(path, described.get(_name(path)), official)
    for name in sorted(described.keys() - {_name(path) for path in systems}):
      text = f'expected results of system {show(name)}, got none'
      self._warning(f'{_join(org, "systems")}/{name}.json', text, _STRUCTURE)
    self._sources(org)
    if self._round:
      self.notes.append(together.note(self._round, org or 'submission'))

  def across(self) -> None:
    """Compares the sets of all systems and organisations with each other."""
    seen: dict[str, dict[str, str]] = {'a copy': {}, 'the same times': {}}
    for each in self._sets:
      told = set()
      for what, by in zip(seen, (each.digests, each.courses), strict=True):
        for key, log in by.items():
          other = seen[what].setdefault(key, log)
          if other != log and log not in told and _folder(other) != each.path:
            text = f'expected a run of its own, got {what} as in {other}'
            self._error(log, text, 'clones')
            told.add(log)
    self._same_seeds()

  def _same_seeds(self) -> None:
    seen: dict[tuple[str | None, int], str] = {}
    for each in self._sets:
      shared = collections.Counter(
        seen[each.name, seed]
        for seed in each.seeds
        if (each.name, seed) in seen
      )
      for other, count in shared.items():
        text = f'expected random seeds, got {count} of those of {other}'
        self._warning(each.path, text, 'seed')
      for seed in each.seeds:
        seen.setdefault((each.name, seed), each.path)

  def _layout(self, org: str) -> None:
    for path in self.tree.children(org):
      name = _name(path)
      if name in _PARTS:
        if path not in self.tree.folders:
          self._error(path, 'expected a folder, got none', _STRUCTURE)
      elif name != _PARAMS and not _BESIDE.fullmatch(name):
        self._unknown(path, ', '.join(_PARTS))

  def _descriptions(self, org: str) -> dict[str, system.Description]:
    folder, found = _join(org, 'systems'), {}
    names: dict[str, str] = {}
    for path in self.tree.children(folder):
      if path not in self.tree.files or not path.endswith('.json'):
        self._unknown(path, 'a <system>.json for each system')
        continue
      description = system.read(self.tree.root / path, path)
      self.findings += description.findings
      found[description.name] = description
      name = description.fields.get('system_name')
      if (
        isinstance(name, str) and name and names.setdefault(name, path) != path
      ):
        text = f'expected a system_name of its own, got {show(name)} as in'
        self._warning(path, f'{text} {names[name]}', 'system description')
    return found

  def _benchmarks(self, systems: Sequence[str]) -> tuple[str, ...]:
    """The rulesets that have all benchmarks of one organisation."""
    names = {
      _name(path)
      for each in systems
      for path, _ in self._set_folders(each)
      if rounds.knowing(_name(path))
    }
    official = rounds.common(names)
    if names and not official:
      text = f'expected benchmarks of one round, got {", ".join(sorted(names))}'
      self._error(_folder(systems[0]), text, 'ruleset')
    return official

  def _set_folders(self, path: str) -> Iterator[tuple[str, str | None]]:
    """The folders of a system's sets, each with its kind of scaling."""
    for folder in self.tree.subfolders(path):
      if _name(folder) in _SCALINGS:
        for inner in self.tree.subfolders(folder):
          yield inner, _name(folder)
      else:
        yield folder, None

  def _system(
    self,
    path: str,
    description: system.Description | None,
    official: tuple[str, ...],
  ) -> None:
    if description is None:
      text = f'expected systems/{_name(path)}.json, got none'
      self._error(path, text, _STRUCTURE)
    self._params(path)
    folders = list(self._set_folders(path))
    if not folders:
      self._error(path, 'expected folders of benchmarks, got none', _STRUCTURE)
    for child in self.tree.children(path):
      if child not in self.tree.folders and _name(child) != _PARAMS:
        self._unknown(child, 'a folder of results for each benchmark')
    sets = [
      self._set(folder, scaling, description, official)
      for folder, scaling in folders
    ]
    if description:
      self._status(_join_system(path), description, sets)
    if len({each.official for each in sets if each.name}) > 1:
      text = 'expected official results alone, got others beside them'
      self._error(path, text, 'unofficial')

  def _set(
    self,
    path: str,
    scaling: str | None,
    description: system.Description | None,
    official: tuple[str, ...],
  ) -> Kept:
    checked = self._examined(path, scaling, self._ruleset)
    known = rounds.knowing(checked.name or '')
    if official and checked.ruleset in {*known} - {*official}:
      checked = self._examined(path, scaling, official[-1])
    self.findings += _placed(checked.findings, path, _name(path))
    self.notes.append(note(checked, path))
    self._beside_logs(path, checked)
    self._params(path)
    kept = kept_of(path, checked)
    self._named(kept, checked)
    first = next(iter(checked.runs.values()), None)
    if first and description:
      values = {k: s.first.value for k, s in first.log.settings.items()}
      for severity, text in system.against(description, values):
        log = f'{path}/{first.log.name}'
        self._found(severity, log, text, 'system description')
    self._sets.append(kept)
    return kept

  def _settled(self, org: str) -> official.Choice | None:
    """The round of a submission, from all of its sets."""
    if self._ruleset:
      return None
    return together.settle(
      self.tree.root / path
      for each in self.tree.subfolders(_join(org, 'results'))
      for path, _ in self._set_folders(each)
    )

  def _examined(self, path, scaling, ruleset) -> runs.SetAudit:
    return runs.examine_set(
      self.tree.root / path,
      self._get,
      ruleset=ruleset,
      found=self._round,
      weak_scaling=scaling == 'weak',
      tell=lambda log: self._tell(f'{path}/{log}'),
    )

  def _named(self, kept: Kept, checked: runs.SetAudit) -> None:
    """The folder is named as its logs name their benchmark."""
    if kept.name is None:
      return
    sizes = {audit.claim.size_name for audit in checked.runs.values()}
    name = kept.name
    if not kept.official:
      size = sizes.pop() if len(sizes) == 1 else 'unofficial'
      name = f'{name}-{size}'
      text = f'not an official benchmark: {name}, ruleset {kept.ruleset}'
      self._warning(kept.path, text, 'unofficial')
    if _name(kept.path) != name:
      text = f'expected the folder of these logs to be named {show(name)}'
      self._error(kept.path, f'{text}, got {_name(kept.path)}', 'benchmark')
    elif kept.official:
      self._in_round(kept)

  def _in_round(self, kept: Kept) -> None:
    known = rounds.knowing(kept.name)
    if self._ruleset and self._ruleset not in known:
      text = f'expected a benchmark of ruleset {self._ruleset}'
      self._error(kept.path, f'{text}, got {kept.name}', 'ruleset')
    elif not known and store.official_runs(kept.name) is None:
      text = f'expected a benchmark of an official round, got {show(kept.name)}'
      self._warning(kept.path, f'{text}: no official tool checks it', 'ruleset')

  def _beside_logs(self, path: str, checked: runs.SetAudit) -> None:
    for child in self.tree.children(path):
      name = _name(child)
      if name == 'scaling.json':
        if text := factor.fault(self.tree, child, checked):
          self._error(child, text, 'normalisation file')
      elif name == 'power' and child in self.tree.folders:
        beside = map(_name, self.tree.children(path))
        logs = [n.rpartition('.')[0] for n in beside if files.is_log(n)]
        for file, text in check_power(self.tree, child, logs):
          self._error(file, text, 'power')
      elif not _LOGS.fullmatch(name) and name != _PARAMS:
        self._unknown(child, 'result_<number>.txt')

  def _status(
    self, path: str, description: system.Description, sets: Sequence[Kept]
  ) -> None:
    since = '4.0.0'
    newer = [
      each
      for each in sets
      if each.official and each.ruleset and rounds.at_least(each.ruleset, since)
    ]
    fault = system.status_fault(description, f'from ruleset {since} on')
    if not newer or not fault:
      return
    sure = any(
      each.certain or rounds.at_least(rounds.knowing(each.name)[0], since)
      for each in newer
      if rounds.knowing(each.name or '')
    )
    severity = ERROR if sure else WARNING
    self._found(severity, path, fault, 'system description')

  def _params(self, folder: str) -> None:
    """Switches that turn checks of the official tools off."""
    path = _join(folder, _PARAMS)
    if path in self.tree.folders:
      self._error(path, 'expected a file, got a folder', _STRUCTURE)
    if path not in self.tree.files:
      return
    try:
      where = self.tree.root / path
      content = files.read_bytes(where, _MAX_PARAMS, links=False)
    except (OSError, ValueError) as error:
      text = getattr(error, 'strerror', None) or error
      self._error(path, f'cannot be read: {text}', 'readable')
      return
    lines = content.decode('utf-8', 'replace').split()
    text = f'asks checkers to look away: {show(" ".join(lines))}; not heeded'
    self._warning(path, f'{text} here', 'bypass')

  def _sources(self, org: str) -> None:
    """Checks that sources, where there are any, are of every benchmark."""
    folder = _join(org, 'benchmarks')
    if folder not in self.tree.folders:
      return  # no checker asks for it
    inside = _join(org, 'results') + '/'
    names = {_name(s.path) for s in self._sets if s.path.startswith(inside)}
    for name in sorted(names):
      source = f'{folder}/{name}'
      if not any(path.startswith(f'{source}/') for path in self.tree.files):
        text = f'expected the source of {name}, got none'
        self._warning(source, text, 'source')

  def _unknown(self, path: str, expected: str) -> None:
    self._warning(path, f'expected {expected}, got something else', 'unknown')

  def _error(self, path: str, text: str, rule: str) -> None:
    self._found(ERROR, path, text, rule)

  def _warning(self, path: str, text: str, rule: str) -> None:
    self._found(WARNING, path, text, rule)

  def _found(self, severity: str, path: str, text: str, rule: str) -> None:
    self.findings.append(Finding(severity, path, None, text, rule))


def _join(folder: str, name: str) -> str:
  return f'{folder}/{name}' if folder else name


def _join_system(results: str) -> str:
  """The description that belongs to a folder results/<system>."""
  above, name = _folder(results), _name(results)
  org = above.removesuffix('results').rstrip('/')
  return _join(org, f'systems/{name}.json')


def _name(path: str) -> str:
  return path.rpartition('/')[2]


def _folder(path: str) -> str:
  return path.rpartition('/')[0]
