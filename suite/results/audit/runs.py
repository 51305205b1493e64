"""Audits the logs of a folder as one set: number, seeds, settings, clones.

Where convergence points of the reference are known, the set is held to them.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
import dataclasses
import hashlib
import os
import pathlib
import re
from typing import Any

from suite import benchmark as benchmark_lib
from suite import files
from suite.benchmark import Benchmark
from suite.results.audit import (
  compared,
  evidence,
  official,
  one,
  plausible,
  rounds,
  settings,
  together,
  tree,
)
from suite.results.audit import log as log_lib
from suite.results.audit.claim import Lookup
from suite.results.audit.compared import Compared, compare
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.quality import CONVERGED
from suite.results.audit.record import Usual, same
from suite.results.convergence import store

# Others log here how many samples a run took until its end.
_COUNTED = dict.fromkeys(
  ('bert', 'dlrm', 'dlrm_dcnv2', 'gpt3', 'llama2_70b_lora', 'llama31_405b',
   'llama31_8b'),
  ('train_samples',),
)  # fmt: skip
_TIMES = 12  # different times that are not equal by chance
_MANY = 3  # fine qualities, or runs, that are not equal by chance
_COARSE = 5  # decimals of a quality that small numbers of samples share
_COURSE = 8  # different qualities that are not equal by chance, coarse or fine
_NEAR = 1e-5  # of the largest quality: closer than two runs come all along
# Rules that a killed run breaks, besides its missing end.
_CUT_OFF = ('required event', 'intervals')
_DECIDE = ('submission_benchmark', 'submission_division')
COUNT = 'number of runs'  # the rule of it
NAMES = 'names of logs'
_MOST = 1000  # runs that are read
_LIKE_A_LOG = re.compile(
  r'result.*\.(txt|log)(\.gz)?', re.DOTALL | re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class SetAudit:
  """Result of the audit of a folder of runs."""

  benchmark: Benchmark | None  # None: unknown here, or the runs disagree
  runs: Mapping[int, one.LogAudit]  # by number
  findings: Sequence[Finding]
  name: str | None = None  # of the benchmark, known here or not
  ruleset: str | None = None
  # With the reference's convergence.
  compared: Compared = dataclasses.field(default_factory=Compared)


def examine_set(
  directory: str | os.PathLike,
  get: Lookup = benchmark_lib.get,
  *,
  ruleset: str | None = None,
  found: official.Choice | None = None,
  weak_scaling: bool = False,
  tell: Callable[[str], None] = lambda text: None,
) -> SetAudit:
  """Audits every `result_*.txt` of a folder, and all of them as a set.

  Args:
    directory: the folder.
    get: finds a benchmark's declaration.
    ruleset: an official one that the logs are held to; None: their own.
    found: the one that the submission is of, where that is known.
    weak_scaling: whether more runs than make a result are as good.
    tell: is told which log is being read.
  """
  directory = pathlib.Path(directory)
  logs, findings = listed(directory)
  read, usual = {}, Usual()
  for number, path in logs.items():
    tell(path.name)
    read[number] = log_lib.read(path, official.keys(), usual)
  said = evidence.of_set(directory, [*read.values()])
  if ruleset is None and found is None and said:
    found = official.choose(said)
  runs = {
    number: one.examine_read(log, get, ruleset, found)
    for number, log in read.items()
  }
  folder = _Folder(directory.resolve().name, runs)
  findings += folder.numbers(weak_scaling)
  if runs:
    findings += [*folder.seeds(), *folder.clones(), *folder.mixed()]
    findings += folder.times()
  findings += folder.outcomes()
  if found and said:
    name = directory.resolve().name
    findings += together.contradictions(name, found, said)
  judged = compare(runs, folder.named, folder.benchmark, folder.ruleset)
  if judged.fault:
    name, text = directory.resolve().name, judged.fault
    findings.append(Finding(judged.severity, name, None, text, compared.RULE))
  return SetAudit(
    folder.benchmark, runs, findings, folder.named, folder.ruleset, judged
  )


def examine_runs(
  directory: str | os.PathLike, get: Lookup = benchmark_lib.get
) -> SetAudit:
  """Audits a folder of runs; ValueError where it holds none."""
  checked = examine_set(directory, get)
  if not checked.runs:
    raise ValueError(f'Expected result_<number>.txt in {directory}, got none.')
  return checked


def listed(
  directory: pathlib.Path,
) -> tuple[dict[int, pathlib.Path], list[Finding]]:
  """The logs of a folder by number, and what is wrong with their names."""
  findings = []
  try:
    logs, named = files.logs(directory)
    others = unread(directory, {path.name for path in logs.values()})
  except OSError as error:
    text = f'cannot be read: {error.strerror}'
    return {}, [Finding(ERROR, directory.name, None, text, 'readable')]
  for name in others:
    text = 'expected the name result_<number>.txt, got another: it was not read'
    findings.append(Finding(ERROR, name, None, text, NAMES))
  for path in logs.values():
    if not files.is_named_as_log(path.name):
      text = 'expected the name result_<number>.txt, got another: it was read, '
      text += 'but official checkers do not'
      findings.append(Finding(WARNING, path.name, None, text, NAMES))
  if not named:
    text = 'expected a number in the name of each log; they were numbered in'
    text += f' the order of their names: {logs[0].name} is run 0'
    findings.append(Finding(WARNING, directory.name, None, text, NAMES))
  found = {n: path for n, path in logs.items() if tree.is_plain(path)}
  for path in (path for n, path in logs.items() if n not in found):
    text = 'expected a file, got a link or another kind: it was not read'
    findings.append(Finding(ERROR, path.name, None, text, 'links'))
  if len(found) > _MOST:
    text = f'expected at most {_MOST} runs, got {len(found)}: not all were read'
    findings.append(Finding(ERROR, directory.name, None, text, NAMES))
  return dict(list(found.items())[:_MOST]), findings


def unread(directory: pathlib.Path, read: Set[str] = frozenset()) -> list[str]:
  """Names of files beside those that are read which are logs, too.

  They are named like one; or, where none is read, hold the records of one.
  """
  names = sorted(p.name for p in directory.iterdir() if p.name not in read)
  return [
    name
    for name in names[:_MOST]
    if _LIKE_A_LOG.fullmatch(name)
    or (not read and log_lib.holds_records(directory / name))
  ]


class _Folder:
  """The runs of a folder, compared with each other."""

  def __init__(self, name: str, runs: Mapping[int, one.LogAudit]):
    self._name = name
    self._runs = runs
    self.benchmark = None
    self.named = _agreed(audit.claim.name for audit in runs.values())
    known = {
      audit.claim.benchmark.name: audit.claim.benchmark
      for audit in runs.values()
      if audit.claim.benchmark
    }
    if len(known) == 1:
      (self.benchmark,) = known.values()

  @property
  def ruleset(self) -> str | None:
    """The ruleset that the logs are held to; None where they disagree."""
    return _agreed(audit.claim.ruleset for audit in self._runs.values())

  @property
  def dropped(self) -> int:
    """Runs that may fail to converge: as many as count as the slowest."""
    if self.benchmark:
      return self.benchmark.dropped
    return store.official_dropped(self.named or '')

  def numbers(self, weak_scaling: bool) -> Iterator[Finding]:
    """Checks for as many runs as are asked for, numbered without a gap."""
    count = len(self._runs)
    if not count:
      yield self._error('expected logs named result_<number>.txt, got none',
                        COUNT)  # fmt: skip
      return
    # Others number from 1, too; ours begin at 0, so a first one was removed.
    ours = all(audit.claim.ours for audit in self._runs.values())
    first = 0 if ours else min(self._runs)
    missing = set(range(first, max(self._runs) + 1)) - set(self._runs)
    if missing:
      some = ', '.join(f'result_{i}.txt' for i in sorted(missing)[:5])
      text = f'expected runs numbered from {first} without a gap, got no {some}'
      yield self._error(text, NAMES)
    elif first > 1:
      text = f'expected runs numbered from 0 or 1, got {first} first'
      yield Finding(WARNING, self._name, None, text, NAMES)
    required = self.benchmark.runs if self.benchmark else None
    required = required or store.official_runs(self.named or '')
    if required and weak_scaling and count < required:
      text = f'expected at least {required} runs, got {count}'
      yield self._error(text, COUNT)
    elif required and not weak_scaling and count != required:
      text = f'expected {required} runs, got {count}'
      yield self._error(text, COUNT)

  def seeds(self) -> Iterator[Finding]:
    """No seed twice, neither alone nor from the same line of the same code."""
    by_seed = collections.defaultdict(list)
    for number, audit in self._runs.items():
      setting = audit.log.settings.get('seed')
      if setting and isinstance(setting.first.value, int | float | str):
        by_seed[_source(setting)].append((number, setting.first))
    for runs in by_seed.values():
      for number, record in runs[1:]:
        text = f'expected a seed of its own, got {show(record.value)}, that of'
        text += f' {self._log(runs[0][0])}'
        yield self._in(ERROR, number, record.line, text, 'seed')

  def clones(self) -> Iterator[Finding]:
    """No log is a copy of another, nor one with its seed or times rewritten."""
    digests: dict[str, int] = {}
    courses: dict[str | None, int] = {}
    scored: dict[tuple[float, ...], int] = {}
    timed: dict[tuple[float, ...] | None, int] = {}
    after = {n: _times(audit) for n, audit in self._runs.items()}
    alike = collections.Counter(after.values())
    of = {n: _qualities(audit) for n, audit in self._runs.items()}
    several = collections.Counter(of.values())
    for number, audit in self._runs.items():
      # Only where its times are equal can a course be.
      times = course(audit) if alike[after[number]] > 1 else None
      durations = after[number] if len({*after[number]}) >= _TIMES else None
      qualities = of[number]
      if audit.log.digest and audit.log.digest in digests:
        other, what = digests[audit.log.digest], 'a copy'
      elif times and times in courses:
        other, what = courses[times], 'the same times and qualities'
      elif qualities in scored and (
        _fine(qualities) >= _MANY
        or len({*qualities}) >= _COURSE
        or several[qualities] == len(self._runs) >= _MANY
      ):
        other = scored[qualities]
        what = 'the same qualities to the last digit'
      elif near := [q for q in scored if _near(q, qualities)]:
        other, what = scored[near[0]], 'nearly the same qualities all along'
      elif durations and durations in timed:
        other, what = timed[durations], 'the same times to the millisecond'
      else:
        other = None
      digests.setdefault(audit.log.digest, number)
      courses.setdefault(times, number)
      timed.setdefault(durations, number)
      if qualities:
        scored.setdefault(qualities, number)
      if other is not None:
        text = f'expected a run of its own, got {what} as in {self._log(other)}'
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
          f'expected {key} {_shown(theirs)} as in {self._log(first_number)}'
        )
        line = ours.first.line if ours else None
        # Names that others give their systems decide nothing.
        named = key.startswith('submission_') and key not in _DECIDE
        lenient = named or _counts_alike(key, ours, theirs)
        severity = WARNING if lenient and not audit.claim.ours else ERROR
        text = f'{text}, got {_shown(ours)}'
        yield self._in(severity, number, line, text, 'one set')

  def times(self) -> Iterator[Finding]:
    """Times that no honest set has; those of Open may be of any size."""
    audits = self._runs.values()
    official_ = all(a.claim.official and a.claim.closed for a in audits)
    seconds = {
      audit.log.name: (ends[1].time_ms - ends[0].time_ms) / 1000.0
      for audit in audits
      if audit.converged
      and all(ends := [audit.log.first(k) for k in ('run_start', 'run_stop')])
    }
    benchmark = self.named if official_ else None
    yield from plausible.check_set(self._name, benchmark, seconds)

  def outcomes(self) -> list[Finding]:
    """The logs' own findings; failed runs that count as the slowest pass."""
    failed = [n for n, audit in self._runs.items() if _failed(audit)]
    allowed = self.dropped
    tolerated = 0 < len(failed) <= allowed and len(failed) < len(self._runs)
    findings = []
    for number, audit in self._runs.items():
      excused = tolerated and number in failed
      for finding in audit.findings:
        if excused and _excused(audit, finding.rule):
          text = f'{finding.text}; it counts as the slowest run'
          finding = dataclasses.replace(finding, severity=WARNING, text=text)
        elif finding.rule == 'seed' and self._seeded(audit):
          finding = dataclasses.replace(finding, severity=ERROR)
        findings.append(finding)
    if failed and not tolerated:
      text = f'expected at most {allowed} of several runs not to converge, got'
      text += f' {len(failed)} of {len(self._runs)}'
      findings.append(self._error(text, CONVERGED))
    return findings

  def _seeded(self, audit: one.LogAudit) -> bool:
    """Returns whether a log must have a seed and has none."""
    asked = rounds.at_least(self.ruleset or '', '1.0.0')
    return asked and audit.claim.closed and 'seed' not in audit.log.settings

  def _error(self, text: str, rule: str) -> Finding:
    return Finding(ERROR, self._name, None, text, rule)

  def _in(self, severity, number, line, text, rule) -> Finding:
    return Finding(severity, self._log(number), line, text, rule)

  def _log(self, number: int) -> str:
    return self._runs[number].log.name


def _agreed(values: Iterable[Any]) -> Any:
  """The one value that all are; None if there are several, or none."""
  different = set(values)
  return different.pop() if len(different) == 1 else None


def _aborted(audit: one.LogAudit) -> bool:
  return any(finding.rule == CONVERGED for finding in audit.findings)


def _cut_off(audit: one.LogAudit) -> bool:
  started = audit.log.first('run_start') is not None
  return started and audit.log.first('run_stop') is None


def _failed(audit: one.LogAudit) -> bool:
  return _aborted(audit) or _cut_off(audit)


def _excused(audit: one.LogAudit, rule: str) -> bool:
  """Returns whether a run breaks a rule only because it did not converge."""
  if rule == CONVERGED or rule.endswith('eval_accuracy'):
    return True
  ends = ('run_stop', 'block_stop', 'epoch_stop', 'eval_start', 'eval_stop')
  official = rule.rpartition(' ')[2] in ends
  return _cut_off(audit) and (rule in _CUT_OFF or official)


def _source(setting: Any) -> tuple:
  """Key that tells seeds apart: a run that logs several has lines for them."""
  if setting.count == 1:
    return (setting.first.value,)
  metadata = setting.first.metadata
  return (setting.first.value, show(metadata.get('file')),
          show(metadata.get('lineno')), setting.count)  # fmt: skip


def course(audit: one.LogAudit) -> str | None:
  """A digest of a run's relative times and qualities; None if it is short."""
  start = audit.log.first('run_start')
  if start is None or len(audit.log.timeline) < 6:
    return None
  began = start.time_ms
  text = repr([(r.key, r.time_ms - began, r.value) for r in audit.log.timeline])
  return hashlib.sha256(text.encode()).hexdigest()


def _times(audit: one.LogAudit) -> tuple[float, ...]:
  """Times of blocks and evals after run_start; none without that."""
  start = audit.log.first('run_start')
  if start is None:
    return ()
  began = start.time_ms
  return tuple([record.time_ms - began for record in audit.log.timeline])


def _qualities(audit: one.LogAudit) -> tuple[float, ...]:
  """The qualities of a run; () where chance may make them equal."""
  found = tuple(v for each in audit.evals for v in each.quality.values())
  different = len({*found})
  fine = different >= _MANY and _fine(found) >= 2
  return found if fine or different >= _COURSE else ()


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
  """Returns whether two long courses are one, but for a little noise."""
  if len(one) != len(other) or one == other or len({*one}) < _COURSE:
    return False
  most = _NEAR * max(map(abs, one))
  return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def _fine(values: Iterable[float]) -> int:
  """Number of different values with more decimals than small counts have."""
  return len({value for value in values if value != round(value, _COARSE)})


def _setting_keys(first: one.LogAudit, other: one.LogAudit) -> list[str]:
  keys = {**first.log.settings, **other.log.settings}
  claims = (first.claim, other.claim)
  counted = _COUNTED.get(first.claim.name, ()) if not first.claim.ours else ()
  return [
    key
    for key in keys
    if key not in counted and any(claim.is_setting(key) for claim in claims)
  ]


def _counts_alike(key: str, ours: Any, theirs: Any) -> bool:
  """Returns whether these are counts of samples that are not far apart."""
  values = [each.first.value for each in (ours, theirs) if each]
  if key not in settings.COUNTS or not all(map(files.is_number, values)):
    return False
  return len(values) == 2 and not settings.far(values[0], values[1:])


def _shown(setting: Any) -> str:
  return show(setting.first.value) if setting else 'none'
