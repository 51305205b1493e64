r"""Speed of the audit on one core, in MB/s, and its memory.

python studies/audit_speed.py --megabytes=100 --big=1000
python studies/audit_speed.py --set=round/acme/results/system/benchmark

With --set, given once for each, folders of real logs are timed instead: all of
the audit of a set, the fastest of several times.

Three logs are made: what a training prints with some records between, records
alone, and a hostile one, of long lines and keys without end. Time is the
processor's, so that other work on the machine counts little. The big log is
read by a process of its own, whose peak of resident memory is that of Python,
of the libraries and of the audit; a log of one record tells the first two.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from suite import files
from suite.results import audit
from suite.results.audit import one
from suite.results.audit.record import TOKEN

_MEGABYTES = flags.DEFINE_integer('megabytes', 100, 'Size of the timed logs.')
_BIG = flags.DEFINE_integer('big', 1000, 'Megabytes of the big log; 0: none.')
_SETS = flags.DEFINE_multi_string('set', [], 'Folder of logs to time.')
_TIMES = flags.DEFINE_integer('times', 5, 'How often each set is audited.')
_AUDIT = flags.DEFINE_string('audit', '', 'Only audit this log (a process).')

_NOON = 1_700_000_000_000  # ms since 1970
_START = ('cache_clear', 'init_start', 'init_stop', 'run_start', 'block_start')
_STOP = ('block_stop', 'eval_start', 'eval_accuracy', 'eval_stop', 'run_stop')
_SETTINGS = {
  'submission_benchmark': 'llama31_8b',
  'submission_division': 'closed',
  'global_batch_size': 32,
  'opt_name': 'adamw',
}
_PRINTED = (
  '{rank}: iteration {n:8d}/ 1200000 | consumed samples: {n:12d} | elapsed'
  ' time per iteration (ms): 512.4 | learning rate: 4.0E-05 | loss 3.5E+00\n'
)


def _record(number: int, key: str, value: object) -> str:
  fields = {
    'namespace': '',
    'time_ms': _NOON + number,
    'event_type': 'POINT_IN_TIME',
    'key': key,
    'value': value,
    'metadata': {'file': '/workspace/train.py', 'lineno': 231, 'step': number},
  }
  return f'0: :::MLLOG {json.dumps(fields)}\n'


def _mixed(number: int) -> str:
  printed = ''.join(_PRINTED.format(rank=n % 8, n=number) for n in range(10))
  return printed + _dense(number)


def _dense(number: int) -> str:
  stats = {'throughput': 123.456 + number, 'train_loss': 3.21}
  return _record(number, 'tracked_stats', stats)


def _hostile(number: int) -> str:
  if number % 1000 == 0:
    return 'x' * (8 << 20) + '\n'
  return _record(number, f'key_{number}' + 'k' * 100, list(range(40)))


def write(path: pathlib.Path, megabytes: float, block) -> int:
  """Writes a log of so many blocks; returns its bytes."""
  number = 0
  with path.open('w', encoding='utf-8') as file:
    for key in _START[:2]:
      file.write(_record(0, key, None))
    for key, value in _SETTINGS.items():
      file.write(_record(0, key, value))
    for key in _START[2:]:
      file.write(_record(0, key, None))
    while file.tell() < megabytes * 1e6:
      number += 1
      file.write(block(number))
    for key in _STOP:
      file.write(_record(number, key, None))
    return file.tell()


def _unknown(name: str):
  raise ValueError(f'Unknown benchmark {name!r}.')


def _timed(path: pathlib.Path) -> float:
  """Seconds of the processor."""
  start = time.process_time()
  one.examine_log(path, _unknown)
  return time.process_time() - start


def _peak(path: pathlib.Path) -> float:
  """Peak of resident memory of a process that audits a log, in MB."""
  command = [sys.executable, __file__, f'--audit={path}']
  return float(subprocess.run(command, capture_output=True, check=True).stdout)


def _show_speed(directory: pathlib.Path) -> None:
  path = directory / 'result_0.txt'
  for name, block in (('mixed', _mixed), ('dense', _dense),
                      ('hostile', _hostile)):  # fmt: skip
    size = write(path, _MEGABYTES.value, block) / 1e6
    speed = size / min(_timed(path) for _ in range(3))
    print(f'{name:8} {size:6.0f} MB {speed:8.1f} MB/s', flush=True)


def _show_set(folder: pathlib.Path) -> None:
  logs = [path for path in folder.iterdir() if files.is_log(path.name)]
  size = sum(path.stat().st_size for path in logs) / 1e6
  records = sum(path.read_bytes().count(TOKEN) for path in logs)
  seconds = []
  for _ in range(_TIMES.value):
    start = time.process_time()
    audit.examine(folder)
    seconds.append(time.process_time() - start)
  speed = size / min(seconds)
  each = 1e6 * min(seconds) / max(1, records)
  print(
    f'{speed:7.1f} MB/s, {each:5.1f} us a record, {size:6.2f} MB in '
    f'{len(logs)} logs, {records} records: {folder}',
    flush=True,
  )


def _show_memory(directory: pathlib.Path) -> None:
  path = directory / 'big.txt'
  write(path, 0, _dense)
  print(f'one record: {_peak(path):6.0f} MB resident', flush=True)
  for name, block in (('mixed', _mixed), ('dense', _dense),
                      ('hostile', _hostile)):  # fmt: skip
    size = write(path, _BIG.value, block) / 1e6
    peak = _peak(path)
    print(f'{name:8} {size:6.0f} MB {peak:6.0f} MB resident', flush=True)


def main(argv: list[str]) -> None:
  """Prints a line a log, or the peak of memory of one audit."""
  del argv
  if _AUDIT.value:
    one.examine_log(_AUDIT.value, _unknown)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == 'darwin' else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
    return
  for folder in _SETS.value:
    _show_set(pathlib.Path(folder))
  if _SETS.value:
    return
  with tempfile.TemporaryDirectory() as directory:
    _show_speed(pathlib.Path(directory))
    if _BIG.value:
      _show_memory(pathlib.Path(directory))


if __name__ == '__main__':
  app.run(main)
