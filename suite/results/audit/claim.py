"""Resolves the claim of a log: its benchmark, and the rules it is held to."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

from suite import hparams as hparams_lib
from suite import rounds
from suite.benchmark import Benchmark, Size
from suite.files import is_number
from suite.hparams import Division
from suite.log_keys import (
  DRAFT,
  MADE,
  STATUSES,
  UNITS,
  is_path,
  is_safe,
)
from suite.results.audit import evidence, official
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.log import Log
from suite.results.audit.official import Verdict
from suite.results.audit.record import TIMELINE, Record
from suite.target import Target

Lookup = Callable[[str], Benchmark]  # ValueError for a name that it lacks

# Names of official rounds without rules for training, or without any.
_OTHERS = frozenset({'ncf', 'cosmoflow', 'deepcam', 'oc20', 'openfold'})
_NEEDED = ('submission_benchmark', 'submission_division')
OWN = 'podium'  # how the name of a ruleset of our own begins
# How settings that the suites share are named, for benchmarks unknown here.
_COMMON = (
  'submission_', 'opt_', 'lars_', 'sgd_', 'global_batch_size',
  'gradient_accumulation_steps', 'train_samples', 'eval_samples',
  'max_sequence_length',
)  # fmt: skip
# Keys of the rules that are no setting of a run: they come when they come.
_NO_SETTINGS = TIMELINE | {'cache_clear', 'weights_initialization', 'seed'}


@dataclasses.dataclass(frozen=True)
class Claim:
  """A log's own account of itself, resolved.

  Logs that hold no `podium_` key come from elsewhere: they can't hold the
  settings that only Podium logs, and may number and nest things differently.
  """

  name: str | None
  size_name: str
  division: Division | None
  benchmark: Benchmark | None  # None: unknown here
  # Declaration that a log is held to beside the official rules. None where it
  # is unknown, or was made for the ruleset of another round.
  size: Size | None
  ours: bool
  ruleset: str | None = None  # that the log was held to
  # By which way: 'told', 'logged', or one of the constants of a `Choice`.
  chosen: str = ''
  others: tuple[str, ...] = ()  # rulesets that it fits as well
  verdict: Verdict | None = None  # of an official ruleset
  draft: bool = False  # that of a benchmark that still lacks proofs
  hparams: Any = None  # rebuilt from the log; None: no declaration holds

  @property
  def official(self) -> bool:
    """Returns whether the rules are those of an official round."""
    if self.verdict is not None:
      return True
    if self.size is None:
      return not self.ours
    return not self.size.ruleset.startswith(OWN)

  @property
  def closed(self) -> bool:
    """Returns whether the Closed division's rules hold: unless it is Open."""
    return self.division is not Division.OPEN

  @functools.cached_property
  def target(self) -> Target | None:
    """The target of the benchmark, in Open too; None where it is unknown."""
    if self.size is not None:
      return self.size.target
    return self.verdict.target if self.verdict else None

  @functools.cached_property
  def metrics(self) -> Sequence[str]:
    """Names of the metrics of the target; none where it is unknown."""
    return self.target.metrics if self.target else []

  def is_setting(self, key: str) -> bool:
    """Returns whether a key is a setting, which all runs of a set share."""
    if key.startswith(MADE):
      return False
    if key.startswith(('podium_', *_COMMON)):
      return True
    if self.verdict and key in self.verdict.once:
      return key not in _NO_SETTINGS
    return self.hparams is not None and key in hparams_lib.logged(self.hparams)

  def unit(self, record: Record) -> str | None:
    """Unit of an event's place; the one that places evals, where it has it."""
    metadata = record.metadata
    for unit in self._units:
      if unit in metadata and is_number(metadata[unit]):
        return unit
    return None

  def at(self, record: Record) -> float | None:
    """Place of an event in training, in that unit."""
    return record.metadata.get(self.unit(record))

  @functools.cached_property
  def _units(self) -> Sequence[str]:
    by_samples = hasattr(self.hparams, 'samples_between_evals')
    return sorted(UNITS, key=lambda u: by_samples and u != 'samples_count')

  @property
  def startup_allowance(self) -> float:
    """Seconds of startup that do not count, by the rules of the round."""
    division = self.division or Division.CLOSED
    if self.size:
      return self.size.startup_allowance(division)
    name = rounds.of_ruleset(self.ruleset)
    return rounds.startup_allowance(name, division)

  @property
  def epochs_before(self) -> int:
    """Epochs that a run has behind it when it starts."""
    if self.benchmark is None or self.hparams is None:
      return 0
    return self.benchmark.starts_after(self.hparams)

  def several(self, key: str) -> bool:
    """Returns whether the rules let a log hold a setting more than once."""
    known = self.verdict is not None and key in self.verdict.asked
    return known and key not in self.verdict.once


def resolve(
  log: Log,
  get: Lookup,
  ruleset: str | None = None,
  found: official.Choice | None = None,
) -> tuple[Claim, list[Finding]]:
  """Resolves the claim of a log, still without `hparams`, and its faults.

  `ruleset` is the ruleset that the log is held to, where that is known, and
  `found` the one that it and the others of its set fit.
  """
  _require_known(ruleset)
  findings: list[Finding] = []
  ours = evidence.is_ours(log)
  benchmark = _benchmark(log, get, ours, findings)
  name = log.value('submission_benchmark')
  claim = Claim(
    name=name if isinstance(name, str) else None,
    size_name=str(log.value('podium_size') or 'reference'),
    division=evidence.division(log),
    benchmark=benchmark,
    size=None,
    ours=ours,
    draft=log.value(DRAFT) is True
    or (ours and bool(benchmark) and benchmark.draft),
  )
  if claim.draft:
    text = 'expected a finished benchmark, got a draft, which may still change:'
    text += ' its results compare with nothing'
    findings.append(log.warning(log.line(DRAFT), text, 'draft'))
  if benchmark:
    claim = _sized(log, claim, findings)
  claim = _ruled(log, claim, ruleset, found)
  findings += _unknown(log, claim)
  return claim, [*findings, *_submission(log, claim, ruleset)]


def official_findings(
  log: Log, claim: Claim, own: list[Finding]
) -> Iterator[Finding]:
  """Findings of the official rules that our own checks lack."""
  if claim.verdict is None:
    return
  lines = {f.line for f in own if f.severity == ERROR and f.line}
  missing = {f.key for f in own if f.severity == ERROR and f.key}
  for fault in claim.verdict.faults:
    if fault.line in lines or (fault.line is None and fault.key in missing):
      continue
    severity = ERROR if fault.error and _for_cause(claim, fault) else WARNING
    yield Finding(severity, log.name, fault.line, fault.text, fault.rule)


def _for_cause(claim: Claim, fault: official.Fault) -> bool:
  """Returns whether a rule means what it says.

  Open files of benchmarks whose quality is a loss (llama31_8b is one) ask for
  an eval_accuracy below 1, as for the accuracies that they were copied from. No
  real run can pass, and the rules free the Open division of a target.
  """
  loss = claim.target is not None and bool(claim.target.at_most)
  asks = claim.verdict.asks
  copied = asks is not None and asks.at_most.get(official.ACCURACY) == 1
  about = fault.key == official.ACCURACY
  return claim.closed or not (loss and copied and about)


def _require_known(ruleset: str | None) -> None:
  if ruleset is None or ruleset.startswith(OWN):
    return
  if ruleset == official.FORMER:
    raise ValueError(
      f'Expected a ruleset after {ruleset}, got {ruleset}: its logs are '
      'lines of another format, which is not read here.'
    )
  if ruleset not in official.rulesets():
    names = ', '.join(official.rulesets()[1:])
    raise ValueError(
      f'Expected one of the rulesets {names}, or one of our own that begins '
      f'with {OWN!r}, got {ruleset!r}.'
    )


def _benchmark(
  log: Log, get: Lookup, ours: bool, findings: list[Finding]
) -> Benchmark | None:
  key = 'submission_benchmark'
  name = log.value(key)
  if not isinstance(name, str):
    return None
  try:
    return get(name)
  except ValueError as error:
    known = name in official.benchmarks() or name in _OTHERS
    if ours or not known:
      findings.append(log.error(log.line(key), str(error), 'benchmark'))
    return None


def _sized(log: Log, claim: Claim, findings: list[Finding]) -> Claim:
  size = claim.benchmark.sizes.get(claim.size_name)
  if size is None and isinstance(log.value('podium_size'), str):
    text = f'expected one of {", ".join(claim.benchmark.sizes)}'
    findings.append(_refused(log, 'podium_size', text, 'size'))
  return dataclasses.replace(claim, size=size)


def _ruled(
  log: Log, claim: Claim, told: str | None, found: official.Choice | None
) -> Claim:
  """Settles the ruleset, and drops a declaration made for another."""
  logged = log.value('podium_ruleset')
  if told is None and claim.ours:
    declared = claim.size.ruleset if claim.size else None
    name = logged if isinstance(logged, str) else declared
    return _held(log, claim, name, 'logged')
  if told is not None:
    return _held(log, claim, told, 'told')
  if found is None and (said := evidence.of_logs([log])):
    found = official.choose(said)
  if found is None:
    return claim
  claim = dataclasses.replace(claim, others=found.others)
  return _held(log, claim, found.ruleset, found.chosen)


def _held(log: Log, claim: Claim, name: str | None, chosen: str) -> Claim:
  verdict, size = None, claim.size
  if name in official.rulesets() and name != official.FORMER:
    verdict = official.check(log.ruled, name, claim.name)
  if size and not claim.ours and name not in (None, size.ruleset):
    size = None
  return dataclasses.replace(
    claim, size=size, ruleset=name, chosen=chosen, verdict=verdict
  )


def _unknown(log: Log, claim: Claim) -> Iterator[Finding]:
  known = claim.name in _OTHERS or claim.name in official.benchmarks()
  if known and claim.verdict is None and claim.benchmark is None:
    yield log.warning(
      log.line('submission_benchmark'),
      f'the rules of benchmark {claim.name} are unknown here: its target, '
      'hyperparameters and sample counts were not checked',
      'unknown benchmark',
    )


def _submission(log: Log, claim: Claim, told: str | None) -> Iterator[Finding]:
  yield from _named(log, claim)
  yield from _paths(log)
  choices = {
    'submission_division': [division.value for division in Division],
    'submission_status': list(STATUSES),
  }
  for key, allowed in choices.items():
    others = claim.verdict is not None and not claim.ours
    free = others and key not in claim.verdict.asked
    severity = WARNING if free else ERROR
    yield from log.hold(
      key,
      allowed.__contains__,
      f'{key} to be one of {", ".join(allowed)}',
      'submission',
      unsaid=severity,
      wrong=severity,
    )
  key = 'podium_ruleset'
  given = log.value(key) if key in log.settings else None
  if claim.size and given not in (None, claim.size.ruleset):
    text = f'expected ruleset {claim.size.ruleset!r} for {claim.name}'
    text += f' at size {claim.size_name}'
    yield _refused(log, key, text, 'ruleset')
  elif told and given not in (None, told):
    yield _refused(log, key, f'expected ruleset {told!r} as told', 'ruleset')


def _named(log: Log, claim: Claim) -> Iterator[Finding]:
  # Rulesets 4.1 to 6.1 ask for some of these only.
  varying = ['submission_org', 'submission_platform', 'submission_status']
  ours = ['podium_size', 'podium_ruleset', 'podium_version']
  for key in [*_NEEDED, *varying, *(ours if claim.ours else [])]:
    if key in log.settings:
      yield from _text(log, key, claim)
    elif key in varying and not claim.ours:
      continue  # the ruleset says so where it wants it
    else:
      yield log.missing(key, 'submission')


def _text(log: Log, key: str, claim: Claim) -> Iterator[Finding]:
  value = log.value(key)
  if value is None and key not in _NEEDED and not claim.ours:
    # The official rules let a key pass that has no value.
    text = f'expected a text as {key}, got no value'
    yield log.warning(log.line(key), text, 'submission')
  elif not isinstance(value, str) or not value.strip():
    yield _refused(log, key, f'expected a text as {key}', 'submission')
  elif not is_safe(value):
    text = f'expected {key} without control characters and without paths'
    yield _refused(log, key, text, 'safe text')


def _paths(log: Log) -> Iterator[Finding]:
  """Checks that a file's name leads into folders, but not out of them."""
  key = 'config_filename'
  value = log.value(key)
  if not isinstance(value, str):
    return
  if not value.isprintable():
    text = f'expected {key} without control characters'
    yield _refused(log, key, text, 'safe text')
  elif is_path(value):
    text = f'expected {key} inside the submission, got {show(value)}'
    yield log.warning(log.line(key), text, 'safe text')


def _refused(log: Log, key: str, text: str, rule: str) -> Finding:
  got = show(log.value(key))
  return log.error(log.line(key), f'{text}, got {got}', rule)
