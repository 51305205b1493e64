"""Good logs for the tests of the audit and of scoring, and faults in them."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import json
import pathlib
import tempfile
from typing import Any
import unittest

from absl.testing import parameterized

from suite import hparams as hparams_lib
from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import NOT_NEGATIVE, POSITIVE, Rule, fixed, one_of, tunable
from suite.results import audit
from suite.results.audit import official
from suite.target import Target

NOON = 1_700_000_000_000  # ms since 1970
MINUTE = 60_000


def _of_optimizer(name: str) -> Callable[[Any], str]:
  return lambda hp: f'{hp.opt_name}_{name}'


@dataclasses.dataclass(frozen=True)
class Hparams:
  """Those of the official rules for resnet, with some that only we log."""

  global_batch_size: int = tunable(
    4096,
    'Images.',
    key='global_batch_size',
  )
  opt_name: str = tunable(
    'lars', 'Optimizer.', key='opt_name', valid=one_of('lars', 'sgd')
  )
  rate: float = tunable(
    10.0, 'Rate.', key=_of_optimizer('opt_base_learning_rate')
  )
  end: float = fixed(1e-4, 'End.', key=_of_optimizer('opt_end_learning_rate'))
  power: int = fixed(
    2, 'Power.', key=_of_optimizer('opt_learning_rate_decay_poly_power')
  )
  decay: int = tunable(
    11545, 'Steps.', key=_of_optimizer('opt_learning_rate_decay_steps')
  )
  warmup: int = tunable(
    5,
    'Epochs.',
    key=lambda hp: (
      ('lars_' if hp.opt_name == 'lars' else '')
      + 'opt_learning_rate_warmup_epochs'
    ),
  )
  momentum: float = tunable(0.9, 'M.', key=_of_optimizer('opt_momentum'))
  weight_decay: float = tunable(
    2e-4,
    'Decay.',
    key=_of_optimizer('opt_weight_decay'),
    rule=Rule(
      '0.0001 times 1, 2 or 4', lambda value, _: value in (1e-4, 2e-4, 4e-4)
    ),
  )
  epsilon: float = fixed(
    0.0,
    'Epsilon.',
    key=lambda hp: 'lars_epsilon' if hp.opt_name == 'lars' else None,
    valid=NOT_NEGATIVE,
  )
  span: int = tunable(64, 'Span.', key='model_bn_span')
  accumulation: int = fixed(1, 'Parts.', key='gradient_accumulation_steps')
  label_smoothing: float = tunable(0.1, 'Share.', valid=one_of(0.0, 0.1))
  epochs_between_evals: int = fixed(4, 'Epochs.')
  eval_offset: int = tunable(2, 'Epochs.', valid=NOT_NEGATIVE)
  blocks: tuple[int, ...] = fixed((3, 4, 6, 3), 'Blocks.')


BENCHMARK = Benchmark(
  name='resnet',
  runs=5,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={'accuracy': 0.759}),
      ruleset='4.0.0',
      data=DataSet('imagenet2012', 1281167, 50000),
    ),
    'tiny': Size(
      hparams=dataclasses.replace(Hparams(), global_batch_size=128),
      target=Target(at_least={'accuracy': 0.97}),
      ruleset='podium-tiny-1',
      data=DataSet('digits', 4000, 1000),
    ),
  },
)


@dataclasses.dataclass(frozen=True)
class BySamples:
  """Hyperparameters of a benchmark whose evals are placed by samples."""

  global_batch_size: int = tunable(
    24, 'Rows.', key='global_batch_size', valid=POSITIVE
  )
  accumulation: int = fixed(1, 'Parts.', key='gradient_accumulation_steps')
  samples_between_evals: int = fixed(3000, 'Samples.')


@dataclasses.dataclass(frozen=True)
class ByFractions:
  """Hyperparameters of a benchmark whose evals are a twentieth apart."""

  global_batch_size: int = tunable(
    24, 'Rows.', key='global_batch_size', valid=POSITIVE
  )
  accumulation: int = fixed(1, 'Parts.', key='gradient_accumulation_steps')
  epochs_between_evals: float = fixed(0.05, 'Epochs.')


def placed(hparams: Any) -> Benchmark:
  """A benchmark of ours with these hyperparameters and a loss as target."""
  size = Size(
    hparams=hparams,
    target=Target(at_most={'loss': 3.0}),
    ruleset='podium-placed-1',
    data=DataSet('rows', 60_000, 100),
  )
  return Benchmark(name='placed', runs=5, dropped=1, sizes={'tiny': size})


TWO_METRICS = dataclasses.replace(
  BENCHMARK,
  name='maskrcnn',
  sizes={
    'reference': dataclasses.replace(
      BENCHMARK.sizes['reference'],
      ruleset='podium-two-1',  # the official ones hold other hyperparameters
      target=Target(at_least={'BBOX': 0.377, 'SEGM': 0.339}),
    )
  },
)


def get(name: str) -> Benchmark:
  """The lookup of these tests: two benchmarks, of which none is trained."""
  known = {'resnet': BENCHMARK, 'maskrcnn': TWO_METRICS}
  if name not in known:
    raise ValueError(f'Unknown benchmark {name!r}.')
  return known[name]


@dataclasses.dataclass
class Event:
  """A record that is still to be written; tests change it as they like."""

  key: str
  value: Any = None
  metadata: dict = dataclasses.field(default_factory=dict)
  time_ms: float = 0
  kind: str = 'POINT_IN_TIME'

  def line(self, number: int) -> str:
    """The line of a log; the metadata name the source as mllog does."""
    fields = {
      'namespace': '',
      'time_ms': self.time_ms,
      'event_type': self.kind,
      'key': self.key,
      'value': self.value,
      'metadata': {'file': 'train.py', 'lineno': number, **self.metadata},
    }
    return f':::MLLOG {json.dumps(fields)}'


def good(
  *,
  run: int = 0,
  size: str = 'tiny',
  benchmark: Benchmark = BENCHMARK,
  hparams: Any = None,
  division: str = 'closed',
  qualities: tuple | None = None,
  minutes_per_epoch: float = 1.0,
  status: str = 'success',
  ours: bool = True,
) -> list[Event]:
  """The events of a log without a fault, as the run log writes them.

  `run` varies the seed and the times. The last quality is 0.99 at size tiny,
  and at others what an official round would believe. `ours=False` leaves out
  the keys that only Podium writes.
  """
  declared = benchmark.sizes[size]
  hparams = hparams or declared.hparams
  if qualities is None:
    qualities = (0.5, 0.7, 0.99 if size == 'tiny' else 0.77)
  events = [
    Event('cache_clear', True),
    Event('init_start', kind='INTERVAL_START'),
    *_settings(benchmark, size, hparams, division, seed=1000 + run),
    *(
      Event('weights_initialization', None, {'tensor': tensor})
      for tensor in official.tensors(declared.ruleset, benchmark.name)
    ),
    Event('init_stop', kind='INTERVAL_END'),
    Event('run_start', kind='INTERVAL_START'),
    *_course(benchmark, hparams, qualities),
    Event(
      'run_stop',
      metadata={'status': status, 'reason': 'target met'},
      kind='INTERVAL_END',
    ),
  ]
  if not ours:
    events = [e for e in events if not e.key.startswith('podium_')]
  _set_times(events, run, minutes_per_epoch)
  return events


def qualities(target: Target) -> tuple:
  """Two evals that miss every bound of a target, and one that meets them."""
  found = []
  for low, high in ((0.1, 2.0), (0.5, 1.5), (1.0, 1.0)):
    quality = {name: low * bound for name, bound in target.at_least.items()}
    quality |= {name: high * bound for name, bound in target.at_most.items()}
    found.append(quality if len(quality) > 1 else next(iter(quality.values())))
  return tuple(found)


def directory(test: unittest.TestCase) -> pathlib.Path:
  """A directory that goes when the test is over."""
  temporary = tempfile.TemporaryDirectory()
  test.addCleanup(temporary.cleanup)
  return pathlib.Path(temporary.name)


def write(path: pathlib.Path, events: list[Event]) -> pathlib.Path:
  """Writes a log."""
  lines = [event.line(number) for number, event in enumerate(events, 1)]
  path.write_text('\n'.join(lines) + '\n')
  return path


def write_set(directory: pathlib.Path, count: int = 5, **changes) -> list[list]:
  """Writes a set of good logs; returns the events of each."""
  directory.mkdir(parents=True, exist_ok=True)
  logs = [good(run=run, **changes) for run in range(count)]
  for run, events in enumerate(logs):
    write(directory / f'result_{run}.txt', events)
  return logs


def find(events: list[Event], key: str, which: int = 0) -> Event:
  """The event of that key; `which` counts from 0."""
  return [event for event in events if event.key == key][which]


def move(events: list[Event], key: str, before: str | None) -> None:
  """Moves a line before the first of another key, or to the end.

  The times stay where they were, so that only the order is at fault.
  """
  times = [event.time_ms for event in events]
  event = find(events, key)
  events.remove(event)
  place = events.index(find(events, before)) if before else len(events)
  events.insert(place, event)
  for event, time_ms in zip(events, times, strict=True):
    event.time_ms = time_ms


class LogTestCase(parameterized.TestCase):
  """Writes logs and audits them with the lookup of these tests."""

  def setUp(self):
    super().setUp()
    self.directory = directory(self)
    self.path = self.directory / 'result_0.txt'

  def check(self, events):
    """The findings of a log of these events."""
    write(self.path, events)
    return audit.examine_log(self.path, get=get).findings

  def check_text(self, text):
    """The findings of a log of these characters, a byte each."""
    self.path.write_bytes(text.encode('latin-1'))
    return audit.examine_log(self.path, get=get).findings

  def assert_found(self, findings, rule, text, severity=audit.ERROR):
    """One of the findings has that severity, rule and text."""
    self.assertTrue(
      any(
        f.severity == severity and f.rule.startswith(rule) and text in str(f)
        for f in findings
      ),
      f'no {severity} [{rule}] with {text!r} in {[*map(str, findings)]}',
    )

  def assert_nothing(self, findings):
    """There are none."""
    self.assertEmpty([*map(str, findings)])


def _settings(benchmark, size, hparams, division, seed) -> Iterator[Event]:
  declared = benchmark.sizes[size]
  values: Mapping[str, Any] = {
    'submission_benchmark': benchmark.name,
    'submission_division': division,
    'submission_org': 'acme',
    'submission_platform': '1xCPU',
    'submission_status': 'onprem',
    'podium_size': size,
    'podium_ruleset': declared.ruleset,
    'podium_version': '0.1.0',
    'seed': seed,
    **hparams_lib.logged(hparams),
    'train_samples': declared.data.trained(declared.hparams),
    'eval_samples': declared.data.eval_samples,
  }
  beside = hparams_lib.beside(hparams)
  for key, value in values.items():
    yield Event(key, value, dict(beside.get(key, {})))


def _course(benchmark, hparams, qualities) -> Iterator[Event]:
  for block, stop, at, quality in _blocks(benchmark, hparams, qualities):
    yield Event('block_start', None, block, kind='INTERVAL_START')
    for key in benchmark.statistics:
      yield Event(key, 10_000, dict(at))
    yield Event('block_stop', None, stop, kind='INTERVAL_END')
    yield Event('eval_start', None, dict(at), kind='INTERVAL_START')
    yield Event('eval_accuracy', quality, dict(at))
    yield Event('eval_stop', None, dict(at), kind='INTERVAL_END')


def _blocks(benchmark, hparams, qualities) -> Iterator[tuple]:
  """Metadata of the start and the stop of a block, and of its eval."""
  done = benchmark.starts_after(hparams)
  samples = getattr(hparams, 'samples_between_evals', None)
  # Of uneven places, none is declared for the audit.
  between = getattr(hparams, 'epochs_between_evals', 1) or 1
  first_eval = getattr(hparams, 'first_eval', None)
  if first_eval is None:
    first_eval = done + getattr(hparams, 'eval_offset', between - 1) + 1
  for number, quality in enumerate(qualities):
    if samples:
      last = (getattr(hparams, 'first_eval', 0) or samples) + number * samples
      if hasattr(hparams, 'place_key'):  # that of epochs
        first = {'first_epoch_num': done + 1}
        start = {**first, 'epoch_count': last - done}
        yield start, first, {'epoch_num': last}, quality
      else:
        at = {'samples_count': last}
        yield {'samples_count': done}, at, at, quality
      done = last
    elif between < 1:
      first = {'first_epoch_num': done + number * between}
      at = {'epoch_num': done + (number + 1) * between}
      yield {**first, 'epoch_count': between}, first, at, quality
    else:
      last = first_eval + number * between
      first = {'first_epoch_num': done + 1}
      block = {**first, 'epoch_count': last - done}
      yield block, first, {'epoch_num': last}, quality
      done = last


def _set_times(events, run, minutes_per_epoch) -> None:
  now = NOON + run * 24 * 60 * MINUTE
  epochs = 0
  for event in events:
    now += 10 + run
    if event.key == 'init_stop':
      now += MINUTE
    if event.key == 'block_stop':
      # Some count samples there.
      now += round(min(epochs, 100) * minutes_per_epoch * MINUTE)
    epochs = event.metadata.get('epoch_count', 0)
    event.time_ms = now
