"""Programs that stand in for others on PATH: they record their calls."""

import json
import os
import pathlib
import stat
import sys

# A python that trains nothing: it records its arguments and the variables of
# ours, and leaves a run's record where the next of $CODES is 0 or 1.
_PYTHON = """#!{python} -S
import json, os, sys
record, codes = os.environ['RECORD'], os.environ.get('CODES', '')
mine = {{n: v for n, v in os.environ.items() if n.startswith(
    ('PODIUM_', 'NCCL_', 'JAX_NUM', 'MY_'))}}
with open(record, 'a') as file:
  file.write(json.dumps([sys.argv[1:], mine]) + '\\n')
if 'launch.train' not in sys.argv or mine.get('PODIUM_PROCESS_ID', '0') != '0':
  sys.exit()
with open(record) as file:
  calls = [json.loads(line) for line in file]
made = sum('launch.train' in argv and env.get('PODIUM_PROCESS_ID', '0') == '0'
           for argv, env in calls)
listed = codes.split()
code = int(listed[made - 1]) if made <= len(listed) else 0
if code in (0, 1):
  given = dict(a.split('=', 1) for a in sys.argv if '=' in a)
  os.makedirs(given['--output'], exist_ok=True)
  open(given['--output'] + '/run_' + given['--run'] + '.json', 'w').close()
sys.exit(0 if code == 100 else code)
"""

# A launcher: it records its arguments; if they hold a command, it is run as the
# shell of a host would, and with $STARTS also words that begin with bash.
_LAUNCHER = """#!{python} -S
import json, os, subprocess, sys
with open(os.environ['CALLS'], 'a') as file:
  file.write(json.dumps(sys.argv) + '\\n')
for argument in sys.argv[1:]:
  if argument.startswith('--command='):
    command = argument.partition('=')[2]
    sys.exit(subprocess.run(['bash', '-c', command]).returncode)
if os.environ.get('STARTS') and 'bash' in sys.argv:
  words = sys.argv[sys.argv.index('bash'):]
  sys.exit(subprocess.run(words).returncode)
sys.exit(int(os.environ.get('LAUNCHER_CODE', '0')))
"""


# A program that nobody calls: it says that somebody did.
_CANARY = """#!/bin/sh
echo "$0 $*" >>{record}
"""


class StandIns:
  """A folder with stand-ins, and what they recorded."""

  def __init__(self, folder: str):
    self.folder = pathlib.Path(folder)
    self.record = self.folder / 'record.jsonl'
    self._calls = self.folder / 'calls.jsonl'
    self.bin = self.folder / 'bin'
    self.bin.mkdir()
    self.python = self._write('my python', _PYTHON)

  def launcher(self, name: str) -> None:
    """Puts a launcher of that name on the PATH of `environment`."""
    self._write(name, _LAUNCHER)

  def canary(self, name: str) -> None:
    """Puts a program there that `sung` tells of."""
    self._write(name, _CANARY, record=self.folder / 'sung')

  def sung(self) -> str:
    """Calls of the canaries."""
    path = self.folder / 'sung'
    return path.read_text() if path.exists() else ''

  def environment(self, **more: str) -> dict[str, str]:
    """Variables for what calls them."""
    rest = {n: v for n, v in os.environ.items() if not n.startswith('PODIUM_')}
    return {
      **rest,
      'HOME': str(self.folder),
      'PATH': f'{self.bin}:{os.environ["PATH"]}',
      'RECORD': str(self.record),
      'CALLS': str(self._calls),
      **more,
    }

  def called(self) -> list[tuple[list[str], dict[str, str]]]:
    """Calls of python: arguments, and variables of ours."""
    return _lines(self.record)

  def launched(self) -> list[list[str]]:
    """Calls of the launchers."""
    return _lines(self._calls)

  def _write(self, name: str, text: str, **values) -> pathlib.Path:
    path = self.bin / name
    path.write_text(text.format(python=sys.executable, **values))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _lines(path: pathlib.Path) -> list:
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]
