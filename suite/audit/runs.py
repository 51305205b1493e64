"""Whether the logs of a folder are one set: number, seeds, settings, clones."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import os
import pathlib
import re
from typing import Any

from suite.audit import one
from suite.audit.claim import Lookup
from suite.audit.findings import ERROR, WARNING, Finding, show
from suite.audit.log import same
from suite.audit.quality import CONVERGED
from suite.benchmark import Benchmark

_NAME = re.compile(r'result_(0|[1-9][0-9]{0,5})\.txt')


@dataclasses.dataclass(frozen=True)
class SetAudit:
  """What the audit of a folder of runs came to."""

  benchmark: Benchmark | None  # None: unknown here, or the runs disagree
  runs: Mapping[int, one.LogAudit]  # by number
  findings: Sequence[Finding]


def examine(directory: str | os.PathLike, get: Lookup) -> SetAudit:
  """Audits every `result_<i>.txt` of a folder, and all of them as a set."""
  directory = pathlib.Path(directory)
  found, findings = _files(directory)
  runs = {number: one.examine(path, get) for number, path in found.items()}
  folder = _Folder(directory.resolve().name, runs)
  findings += folder.numbers()
  if runs:
    findings += [*folder.seeds(), *folder.clones(), *folder.mixed()]
  findings += folder.convergence()
  return SetAudit(folder.benchmark, runs, findings)


def _files(directory: pathlib.Path) -> tuple[dict[int, pathlib.Path], list]:
  found, findings = {}, []
  try:
    paths = sorted(directory.iterdir())
  except OSError as error:
    text = f'cannot be read: {error.strerror}'
    return {}, [Finding(ERROR, directory.name, None, text, 'readable')]
  for path in paths:
    if match := _NAME.fullmatch(path.name):
      found[int(match[1])] = path
    elif path.name.startswith('result') and path.suffix in ('.txt', '.log'):
      text = 'expected the name result_<number>.txt, got another'
      findings.append(Finding(ERROR, path.name, None, text, 'names of logs'))
  return dict(sorted(found.items())), findings


class _Folder:
  """The runs of a folder, compared with each other."""

  def __init__(self, name: str, runs: Mapping[int, one.LogAudit]):
    self._name = name
    self._runs = runs
    self.benchmark = None
    known = {
      audit.claim.benchmark.name: audit.claim.benchmark
      for audit in runs.values()
      if audit.claim.benchmark
    }
    if len(known) == 1:
      (self.benchmark,) = known.values()

  def numbers(self) -> Iterator[Finding]:
    """As many runs as the benchmark asks for, numbered 0, 1, 2 ..."""
    count = len(self._runs)
    if not count:
      yield self._error('expected logs named result_<number>.txt, got none',
                        'number of runs')  # fmt: skip
      return
    missing = set(range(max(self._runs) + 1)) - set(self._runs)
    if missing:
      some = ', '.join(f'result_{i}.txt' for i in sorted(missing)[:5])
      text = f'expected runs numbered from 0 without a gap, got no {some}'
      yield self._error(text, 'names of logs')
    if self.benchmark and count != self.benchmark.runs:
      text = f'expected {self.benchmark.runs} runs, got {count}'
      yield self._error(text, 'number of runs')

  def seeds(self) -> Iterator[Finding]:
    """No seed twice, neither alone nor from the same line of the same code."""
    by_seed = collections.defaultdict(list)
    for number, audit in self._runs.items():
      setting = audit.log.settings.get('seed')
      if setting and isinstance(setting.first.value, int):
        by_seed[_source(setting)].append((number, setting.first))
    for runs in by_seed.values():
      for number, record in runs[1:]:
        text = f'expected a seed of its own, got {show(record.value)}, that of'
        text += f' result_{runs[0][0]}.txt'
        yield self._in(ERROR, number, record.line, text, 'seed')

  def clones(self) -> Iterator[Finding]:
    """No log is a copy of another, nor one with its seed or times rewritten."""
    digests: dict[str, int] = {}
    courses: dict[str | None, int] = {}
    for number, audit in self._runs.items():
      course = _course(audit)
      if audit.log.digest and audit.log.digest in digests:
        other, what = digests[audit.log.digest], 'a copy'
      elif course and course in courses:
        other, what = courses[course], 'the same times and qualities'
      else:
        other = None
      digests.setdefault(audit.log.digest, number)
      courses.setdefault(course, number)
      if other is not None:
        text = f'expected a run of its own, got {what} as in result_{other}.txt'
        yield self._in(ERROR, number, None, text, 'clones')

  def mixed(self) -> Iterator[Finding]:
    """One benchmark, size, division, system and set of hyperparameters."""
    first_number, first = next(iter(self._runs.items()))
    for number, audit in self._runs.items():
      for key in _setting_keys(first, audit):
        ours, theirs = audit.log.settings.get(key), first.log.settings.get(key)
        if ours and theirs and same(ours.first.value, theirs.first.value):
          continue
        if ours is None and theirs is None:
          continue
        text = (
          f'expected {key} {_shown(theirs)} as in result_{first_number}.txt'
        )
        line = ours.first.line if ours else None
        yield self._in(
          ERROR, number, line, f'{text}, got {_shown(ours)}', 'one set'
        )

  def convergence(self) -> list[Finding]:
    """The logs' own findings; as many aborted runs as count as slowest pass."""
    failed = [
      number
      for number, audit in self._runs.items()
      if any(finding.rule == CONVERGED for finding in audit.findings)
    ]
    allowed = self.benchmark.dropped if self.benchmark else 1
    tolerated = 0 < len(failed) <= allowed and len(failed) < len(self._runs)
    findings = []
    for audit in self._runs.values():
      for finding in audit.findings:
        if tolerated and finding.rule == CONVERGED:
          finding = dataclasses.replace(
            finding,
            severity=WARNING,
            text=finding.text + '; it counts as the slowest run',
          )
        findings.append(finding)
    if failed and not tolerated:
      text = f'expected at most {allowed} of several runs not to converge, got'
      text += f' {len(failed)} of {len(self._runs)}'
      findings.append(self._error(text, CONVERGED))
    return findings

  def _error(self, text: str, rule: str) -> Finding:
    return Finding(ERROR, self._name, None, text, rule)

  def _in(self, severity, number, line, text, rule) -> Finding:
    return Finding(severity, f'result_{number}.txt', line, text, rule)


def _source(setting: Any) -> tuple:
  """What tells seeds apart: a run that logs several has lines for them."""
  if setting.count == 1:
    return (setting.first.value,)
  metadata = setting.first.metadata
  return (setting.first.value, show(metadata.get('file')),
          show(metadata.get('lineno')), setting.count)  # fmt: skip


def _course(audit: one.LogAudit) -> str | None:
  """A digest of a run's relative times and qualities; None if it is short."""
  start = audit.log.first('run_start')
  if start is None or len(audit.log.timeline) < 6:
    return None
  digest = hashlib.sha256()
  for record in audit.log.timeline:
    after = record.time_ms - start.time_ms
    digest.update(repr((record.key, after, record.value)).encode())
  return digest.hexdigest()


def _setting_keys(first: one.LogAudit, other: one.LogAudit) -> list[str]:
  keys = {**first.log.settings, **other.log.settings}
  claims = (first.claim, other.claim)
  return [key for key in keys if any(claim.is_setting(key) for claim in claims)]


def _shown(setting: Any) -> str:
  return show(setting.first.value) if setting else 'none'
