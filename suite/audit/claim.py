"""What a log claims to be, and the declaration that it is held to."""

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

from suite import hparams as hparams_lib
from suite.audit.findings import Finding, show
from suite.audit.log import Log, Record, is_number
from suite.benchmark import Benchmark, Size
from suite.hparams import Division

Lookup = Callable[[str], Benchmark]  # ValueError for a name that it lacks

# Benchmarks of official rounds: a name here that Podium lacks is no mistake.
OFFICIAL = frozenset({
  'bert', 'cosmoflow', 'deepcam', 'deepseekv3_671b', 'dlrm', 'dlrm_dcnv2',
  'dlrmv4', 'flux1', 'gnmt', 'gnn', 'gpt3', 'gpt_oss_20b', 'llama2_70b_lora',
  'llama31_405b', 'llama31_8b', 'maskrcnn', 'minigo', 'ncf', 'oc20',
  'openfold', 'qwen35_397b_grpo', 'resnet', 'retinanet', 'rgat', 'rnnt', 'ssd',
  'stable_diffusion', 'transformer', 'unet3d',
})  # fmt: skip
UNITS = ('epoch_num', 'samples_count', 'step_num')
_UNOFFICIAL = 'podium'  # how the name of a ruleset of our own begins
# How settings that the suites share are named, for benchmarks unknown here.
_COMMON = (
  'submission_', 'opt_', 'lars_', 'sgd_', 'global_batch_size',
  'gradient_accumulation_steps', 'train_samples', 'eval_samples',
  'max_sequence_length',
)  # fmt: skip


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
  size: Size | None  # None: unknown here
  ours: bool
  hparams: Any = None  # rebuilt from the log; None: the benchmark is unknown

  @property
  def official(self) -> bool:
    """Whether the rules are those of an official round."""
    if self.size is None:
      return not self.ours
    return not self.size.ruleset.startswith(_UNOFFICIAL)

  @property
  def closed(self) -> bool:
    """Whether the Closed division's rules hold; they do unless it is Open."""
    return self.division is not Division.OPEN

  def is_setting(self, key: str) -> bool:
    """Whether a key says how a run was set up, alike in all runs of a set."""
    if key.startswith(('podium_', *_COMMON)):
      return True
    return self.hparams is not None and key in hparams_lib.logged(self.hparams)


def resolve(log: Log, get: Lookup) -> tuple[Claim, list[Finding]]:
  """The claim of a log, still without `hparams`, and what is wrong with it."""
  findings: list[Finding] = []
  ours = any(key.startswith('podium_') for key in log.settings)
  benchmark = _benchmark(log, get, ours, findings)
  size_name = log.value('podium_size') or 'reference'
  size = None
  if benchmark and isinstance(size_name, str):
    size = benchmark.sizes.get(size_name)
    if size is None:
      text = f'expected one of {", ".join(benchmark.sizes)}'
      findings.append(_refused(log, 'podium_size', text, 'size'))
  name = log.value('submission_benchmark')
  claim = Claim(
    name=name if isinstance(name, str) else None,
    size_name=str(size_name),
    division=_division(log),
    benchmark=benchmark,
    size=size,
    ours=ours,
  )
  return claim, [*findings, *_submission(log, claim)]


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
    if ours or name not in OFFICIAL:
      findings.append(log.error(log.line(key), str(error), 'benchmark'))
    else:
      findings.append(
        log.warning(
          log.line(key),
          f'the rules of benchmark {name} are unknown here: its target, '
          'hyperparameters and sample counts were not checked',
          'unknown benchmark',
        )
      )
    return None


def _division(log: Log) -> Division | None:
  value = log.value('submission_division')
  return next((d for d in Division if d.value == value), None)


def _submission(log: Log, claim: Claim) -> Iterator[Finding]:
  yield from _named(log, claim)
  choices = {
    'submission_division': [division.value for division in Division],
    'submission_status': ['onprem', 'cloud', 'preview', 'research'],
  }
  for key, allowed in choices.items():
    if key in log.settings and log.value(key) not in allowed:
      text = f'expected {key} to be one of {", ".join(allowed)}'
      yield _refused(log, key, text, 'submission')
  key = 'podium_ruleset'
  given = log.value(key) if key in log.settings else None
  if claim.size and given not in (None, claim.size.ruleset):
    text = f'expected ruleset {claim.size.ruleset!r} for {claim.name}'
    text += f' at size {claim.size_name}'
    yield _refused(log, key, text, 'ruleset')


def _named(log: Log, claim: Claim) -> Iterator[Finding]:
  required = ['submission_benchmark', 'submission_division']
  # Rulesets 4.1 to 6.1 ask for some of these only.
  varying = ['submission_org', 'submission_platform', 'submission_status']
  ours = ['podium_size', 'podium_ruleset', 'podium_version']
  for key in required + varying + (ours if claim.ours else []):
    if key in log.settings:
      yield from _text(log, key)
    elif key in varying and claim.size is None:
      continue
    else:
      yield log.error(None, f'expected {key}, got none', 'submission')


def _text(log: Log, key: str) -> Iterator[Finding]:
  value = log.value(key)
  if not isinstance(value, str) or not value.strip():
    yield _refused(log, key, f'expected a text as {key}', 'submission')
  elif not value.isprintable() or _is_path(value):
    text = f'expected {key} without control characters and without paths'
    yield _refused(log, key, text, 'safe text')


def _is_path(text: str) -> bool:
  parts = text.replace('\\', '/').split('/')
  return text.startswith(('/', '\\', '~')) or any(
    part in ('.', '..') for part in parts
  )


def _refused(log: Log, key: str, text: str, rule: str) -> Finding:
  got = show(log.value(key))
  return log.error(log.line(key), f'{text}, got {got}', rule)


def unit(record: Record) -> str | None:
  """By which count the metadata of an event say where in training it stands."""
  return next((n for n in UNITS if is_number(record.metadata.get(n))), None)


def at(record: Record) -> float | None:
  """Where in training an event stands, by that count."""
  return record.metadata.get(unit(record))
