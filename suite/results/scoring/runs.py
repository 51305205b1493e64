"""Runs as scoring needs them, from audited logs and those of old rounds.

Logs of v0.7 and later are read and judged by `suite.results.audit`. Those of
v0.5 and v0.6 have another form and count in seconds, with a fraction; here they
are read for their times, and nothing else of them is checked.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
import operator
import os
import re
from typing import Any

from suite import clock, hparams
from suite.files import is_number
from suite.results.audit import LogAudit, timing
from suite.results.records import Value
from suite.target import Target

_HEAD = 1 << 16  # bytes in which the first record must stand
_LINE = 1 << 20
_OLD = (
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
_KEYS = frozenset({
  b'run_start', b'run_stop', b'eval_accuracy', b'submission_benchmark',
  b'global_batch_size', b'input_batch_size', b'seed',
  b'submission_division', b'eval_target',
})  # fmt: skip
# The same benchmark by the names that logs of some submitters have for it.
_NAMES = {'mask': 'maskrcnn', 'masked': 'maskrcnn'}


@dataclasses.dataclass(frozen=True)
class Run:
  """One run; None where the log does not say."""

  benchmark: str | None
  division: str | None
  start_ms: float | None  # since 1970
  stop_ms: float | None
  value: Value  # as a score shows it, yet without what is dropped


def from_audit(number: int, found: LogAudit, allowance: float) -> Run:
  """A run as the audit saw it; startup beyond `allowance` seconds counts."""
  last = found.evals[-1] if found.evals else None
  batch = hparams.batch_in(found.settings)
  start, stop = found.log.first('run_start'), found.log.first('run_stop')
  return Run(
    benchmark=found.claim.name,
    division=found.claim.division and found.claim.division.value,
    start_ms=start and start.time_ms,
    stop_ms=stop and stop.time_ms,
    value=Value(
      run=number,
      seed=found.seed,
      status=found.status,
      seconds=time_to_quality(found, allowance),
      reached=last and last.at,
      unit=last and last.unit,
      quality=dict(last.quality) if last else {},
      batch_size=batch if isinstance(batch, int) else None,
      dropped=None,
    ),
  )


def time_to_quality(found: LogAudit, allowance: float) -> float | None:
  """Seconds from run_start to run_stop, and of startup beyond `allowance`.

  None if the run did not converge.
  """
  if not found.converged:
    return None
  ends = (found.log.first(key).time_ms for key in ('run_stop', 'run_start'))
  startup = timing.startup_ms(found.log) / 1000.0
  return clock.time_to_quality(operator.sub(*ends) / 1000.0, startup, allowance)


def old_round(path: str | os.PathLike) -> str | None:
  """'v0.5' or 'v0.6' where the records of a log have that form, else None."""
  with open(path, 'rb') as stream:
    head = stream.read(_HEAD)
  if b':::MLLOG' in head:
    return None
  return next((r for r, token in _TOKENS.items() if token in head), None)


def read_old(path: str | os.PathLike, number: int) -> Run:
  """A run of v0.5 or v0.6, from the first run_start to the last run_stop.

  Where several processes wrote into one file, that is the time that the whole
  of them took. Raises ValueError if the log is of another round.
  """
  name = old_round(path)
  if name is None:
    raise ValueError(f'Expected a log of v0.5 or v0.6, got {path}.')
  found = _Found()
  with open(path, 'rb') as stream:
    for key, milliseconds, value in _records(stream, dict(_OLD)[name], found):
      found.add(key, milliseconds, value)
  return found.run(number)


def _records(stream, pattern: re.Pattern, found: '_Found') -> Iterator[tuple]:
  while line := stream.readline(_LINE):
    match = pattern.search(line)
    if match is None:
      continue
    if 'benchmark' in match.groupdict():
      found.benchmark = match['benchmark'].decode()
    if match['key'] in _KEYS:
      value = (match['value'] or b'').strip()
      try:
        parsed = json.loads(value) if value else None
      except ValueError:
        continue  # cut in the middle, or no JSON: v0.5 allows any text
      yield match['key'].decode(), 1000 * float(match['time']), parsed


class _Found:
  """Collects the records of an old log."""

  def __init__(self):
    self.benchmark: str | None = None
    self._start: float | None = None
    self._stop: float | None = None
    self._success: bool | None = None
    self._eval: tuple[float | None, dict[str, float]] = (None, {})
    self._values: dict[str, Any] = {}

  def add(self, key: str, milliseconds: float, value: Any) -> None:
    fields = value if isinstance(value, dict) else {'value': value}
    metadata = fields.get('metadata')
    metadata = metadata if isinstance(metadata, dict) else {}
    if key == 'run_start':
      self._start = min(self._start or milliseconds, milliseconds)
    elif key == 'run_stop':
      self._stop = milliseconds
      self._success = _success(fields, metadata)
    elif key == 'eval_accuracy':
      at = metadata.get('epoch_num', fields.get('epoch'))
      self._eval = (_number(at), _quality(fields.get('value')))
    elif key not in self._values:
      self._values[key] = fields.get('value')

  def run(self, number: int) -> Run:
    name = self._values.get('submission_benchmark')
    name = name if isinstance(name, str) else self.benchmark
    batch = self._values.get(
      'global_batch_size', self._values.get('input_batch_size')
    )
    seed = self._values.get('seed')
    at, quality = self._eval
    success = self._ended_well()
    return Run(
      benchmark=_NAMES.get(name, name),
      division=self._values.get('submission_division'),
      start_ms=self._start,
      stop_ms=self._stop,
      value=Value(
        run=number,
        seed=seed if isinstance(seed, int) else None,
        status={True: 'success', False: 'aborted', None: None}[success],
        seconds=self._seconds() if success else None,
        reached=at,
        unit='epoch_num' if at is not None else None,
        quality=quality,
        batch_size=batch if isinstance(batch, int) else None,
        dropped=None,
      ),
    )

  def _ended_well(self) -> bool | None:
    """Success as the log says it, or else by its own target (v0.5)."""
    target = _number(self._values.get('eval_target'))
    if self._stop is None or self._success is not None or target is None:
      return self._success
    # All metrics of v0.5 are at least something.
    quality = self._eval[1]
    return any(Target({name: target}).met_by(quality) for name in quality)

  def _seconds(self) -> float | None:
    if self._start is None or self._stop <= self._start:
      return None
    return (self._stop - self._start) / 1000.0


def _success(fields: Mapping[str, Any], metadata: Any) -> bool | None:
  given = fields.get('success')
  if given is not None:
    return str(given).lower() == 'true'
  status = metadata.get('status')
  return None if status is None else status == 'success'


def _number(value: Any) -> float | None:
  return value if is_number(value) else None


def _quality(value: Any) -> dict[str, float]:
  """The numbers in an eval's value, by name; other things are left out."""
  if isinstance(value, dict):
    value = value.get('accuracy', value)
  if isinstance(value, dict):
    return {str(n): v for n, v in value.items() if _number(v) is not None}
  if isinstance(value, list):
    return {f'{i}': v for i, v in enumerate(value) if _number(v) is not None}
  return {} if _number(value) is None else {'eval_accuracy': value}
