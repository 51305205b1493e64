"""Logs of rounds v0.5 and v0.6: their times, evals and settings.

Those rounds wrote lines of other forms, with times in seconds. What they hold
is read, and nothing of it is checked: no rules of theirs are known to a program
but the number of runs and the target.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import re
from typing import Any, BinaryIO

from suite import files
from suite.target import Target

_HEAD = 1 << 16  # bytes in which the first record must stand
_LINE = 1 << 20
_FORMS = (
  # :::MLPv0.5.0 resnet 1543785258.927179813 (file.py:12) key: value
  ('v0.5', re.compile(
    rb':::MLPv0\.5\.\d+ (?P<benchmark>\w+) (?P<time>\d+(\.\d+)?) '
    rb'\([^)]*\) (?P<key>\w+)(: ?(?P<value>.*))?'
  )),
  # :::MLL 1560722659.018 key: {"value": ..., "metadata": {...}}
  ('v0.6', re.compile(
    rb':::MLL (?P<time>\d+(\.\d+)?) (?P<key>\w+): (?P<value>.*)'
  )),
)  # fmt: skip
_TOKENS = {'v0.5': b':::MLPv0.5.', 'v0.6': b':::MLL '}
# The same benchmark by the names that logs of some submitters have for it.
_NAMES = {'mask': 'maskrcnn', 'masked': 'maskrcnn'}
_EVALS = 'eval_accuracy'
_BOXES, _MASKS = 0.377, 0.339
# Qualities to reach in Closed, from the rules of each round.
_TARGETS = {
  'v0.5': {'gnmt': 21.8, 'minigo': 0.4, 'ncf': 0.635, 'resnet': 0.749,
           'ssd': 0.212, 'transformer': 25.0},
  'v0.6': {'gnmt': 24.0, 'minigo': 0.5, 'resnet': 0.759, 'ssd': 0.23,
           'transformer': 25.0},
}  # fmt: skip
_TWO_METRICS = {'maskrcnn': Target({'BBOX': _BOXES, 'SEGM': _MASKS})}
_TIMED = frozenset({'run_start', 'run_stop', 'init_start', 'eval_start',
                    'eval_stop', _EVALS})  # fmt: skip
SEEDS = ('seed', 'run_set_random_seed')
_BATCH = ('global_batch_size', 'input_batch_size')
# How settings begin, where they are told apart from what was done.
_SETTINGS = ('opt_', 'model_', 'submission_', 'eval_target', 'max_',
             *SEEDS, *_BATCH)  # fmt: skip
_MAX_SETTINGS = 500
_MAX_EVALS = 20_000
_MAX_TEXT = 200  # characters of a setting


@dataclasses.dataclass(frozen=True)
class OldEval:
  """An eval, at a place as the log counts it."""

  epoch: float | None
  time_ms: float
  quality: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class OldLog:
  """Contents of a log; None where it does not say."""

  round: str
  benchmark: str | None
  init_ms: float | None  # since 1970
  start_ms: float | None
  stop_ms: float | None
  success: bool | None
  evaluating: float  # seconds between eval_start and eval_stop
  evals: Sequence[OldEval]
  settings: Mapping[str, Any]

  @property
  def seconds(self) -> float | None:
    """Seconds to the target; None if the run missed it."""
    return self.duration if self.success else None

  @property
  def duration(self) -> float | None:
    """Seconds from run_start to run_stop."""
    start, stop = self.start_ms, self.stop_ms
    if start is None or stop is None or stop <= start:
      return None
    return (stop - start) / 1000.0

  @property
  def seed(self) -> int | None:
    """Seed of the run."""
    found = (self.settings.get(key) for key in SEEDS)
    return next((seed for seed in found if type(seed) is int), None)

  @property
  def batch_size(self) -> int | None:
    """Batch size: that of one worker where the log has no other (v0.5)."""
    found = (self.settings.get(key) for key in _BATCH)
    return next((size for size in found if type(size) is int), None)

  @property
  def division(self) -> str | None:
    """The division that the log names; none of v0.5 does."""
    division = self.settings.get('submission_division')
    return division if isinstance(division, str) else None

  @property
  def target(self) -> Target | None:
    """The target of the round for Closed; None where it is unknown."""
    if self.benchmark in _TWO_METRICS:
      return _TWO_METRICS[self.benchmark]
    bound = _TARGETS[self.round].get(self.benchmark)
    return None if bound is None else Target({_EVALS: bound})


def round_of(path: str | os.PathLike) -> str | None:
  """'v0.5' or 'v0.6' where the records of a log have that form, else None."""
  try:
    with files.opened_log(path) as stream:
      head = stream.read(_HEAD)
  except (OSError, ValueError):  # the audit says why it cannot be read
    return None
  if b':::MLLOG' in head:
    return None
  return next((r for r, token in _TOKENS.items() if token in head), None)


def read(path: str | os.PathLike) -> OldLog:
  """Reads a log, from the first run_start to the last run_stop.

  Where several processes wrote into one file, that is the time that the whole
  of them took. Raises ValueError if the log is of another round.
  """
  name = round_of(path)
  if name is None:
    raise ValueError(f'Expected a log of v0.5 or v0.6, got {path}.')
  found = _Found(name)
  with files.opened_log(path) as stream:
    for key, milliseconds, value in _records(stream, found):
      found.add(key, milliseconds, value)
  return found.log()


def _records(stream: BinaryIO, found: '_Found') -> Iterator[tuple]:
  pattern = dict(_FORMS)[found.round]
  while line := stream.readline(_LINE):
    match = pattern.search(line)
    if match is None:
      continue
    if 'benchmark' in match.groupdict():
      found.benchmark = match['benchmark'].decode()
    key, value = match['key'].decode(), (match['value'] or b'').strip()
    if key in _TIMED or key.startswith(_SETTINGS):
      try:
        parsed = json.loads(value) if value else None
      except (ValueError, RecursionError):
        # Cut in the middle, or no JSON: v0.5 allows any text. A clock that
        # starts or stops does so whatever is said about it.
        if key not in ('eval_start', 'eval_stop'):
          continue
        parsed = None
      yield key, 1000 * float(match['time']), parsed


class _Found:
  """Collects the records of an old log."""

  def __init__(self, name: str):
    self.round = name
    self.benchmark: str | None = None
    self._init: float | None = None
    self._start: float | None = None
    self._stop: float | None = None
    self._success: bool | None = None
    self._begun: float | None = None  # an eval that goes on
    self._evaluating = 0.0  # ms
    self._evals: list[OldEval] = []
    self._settings: dict[str, Any] = {}

  def add(self, key: str, milliseconds: float, value: Any) -> None:
    fields = value if isinstance(value, dict) else {'value': value}
    metadata = fields.get('metadata')
    metadata = metadata if isinstance(metadata, dict) else {}
    if key == 'init_start':
      self._init = min(self._init or milliseconds, milliseconds)
    elif key == 'run_start':
      self._start = min(self._start or milliseconds, milliseconds)
    elif key == 'run_stop':
      self._stop = milliseconds
      self._success = _success(fields, metadata)
    elif key == 'eval_start':
      self._begun = milliseconds
    elif key == 'eval_stop':
      if self._begun is not None:
        self._evaluating += max(0.0, milliseconds - self._begun)
      self._begun = None
    elif key == _EVALS:
      at = _number(metadata.get('epoch_num', fields.get('epoch')))
      quality = _quality(fields.get('value'))
      if len(self._evals) < _MAX_EVALS:
        self._evals.append(OldEval(at, milliseconds, quality))
    elif len(self._settings) < _MAX_SETTINGS and _is_short(fields.get('value')):
      self._settings.setdefault(key, fields.get('value'))

  def log(self) -> OldLog:
    name = self._settings.get('submission_benchmark')
    name = name if isinstance(name, str) else self.benchmark
    return OldLog(
      round=self.round,
      benchmark=_NAMES.get(name, name),
      init_ms=self._init,
      start_ms=self._start,
      stop_ms=self._stop,
      success=self._ended_well(),
      evaluating=self._evaluating / 1000.0,
      evals=self._evals,
      settings=self._settings,
    )

  def _ended_well(self) -> bool | None:
    """Success as the log says it, or else by its own target (v0.5)."""
    target = _number(self._settings.get('eval_target'))
    if self._stop is None or self._success is not None or target is None:
      return self._success
    # All metrics of v0.5 are at least something.
    quality = self._evals[-1].quality if self._evals else {}
    return any(Target({name: target}).met_by(quality) for name in quality)


def _success(fields: Mapping[str, Any], metadata: Any) -> bool | None:
  given = fields.get('success')
  if given is not None:
    return str(given).lower() == 'true'
  status = metadata.get('status')
  return None if status is None else status == 'success'


def _is_short(value: Any) -> bool:
  """Returns whether it is a setting to show; some values are yet to come."""
  if isinstance(value, str):
    return len(value) <= _MAX_TEXT and not value.startswith('DEFERRED')
  return isinstance(value, bool) or files.is_number(value)


def _number(value: Any) -> float | None:
  """A number, which some logs write as a text."""
  if isinstance(value, str) and re.fullmatch(r'[0-9]{1,9}(\.[0-9]+)?', value):
    return float(value)
  return value if files.is_number(value) else None


def _quality(value: Any) -> dict[str, float]:
  """The numbers in an eval's value, by name; other things are left out."""
  if isinstance(value, dict):
    value = value.get('accuracy', value)
  if isinstance(value, dict):
    pairs = ((str(name), _number(part)) for name, part in value.items())
  elif isinstance(value, list):
    pairs = ((f'{i}', _number(part)) for i, part in enumerate(value))
  else:
    pairs = ((_EVALS, _number(value)),)
  return {name: number for name, number in pairs if number is not None}
