"""Sets up a session: devices, one compilation cache, what tests cost.

Every test sees 8 CPU devices, 2 threads, and no silent rank promotion.
"""

import collections
import gc
import hashlib
from importlib import metadata
import os
import pathlib
import platform
import re
import shutil
import signal
import tempfile

from absl import flags
import pytest

_ROOT = pathlib.Path(__file__).parent.parent
# Programs that were compiled before, for this process and all that it starts.
_COMPILED = _ROOT / '.cache' / 'compiled'
_COMPILED_BYTES = 2 * 2**30
# CPU seconds that all tests of one benchmark may take together. One that needs
# more belongs in `make test-slow`, or needs a smaller model to test.
# With nothing compiled before, MiniGo, the dearest by far, took 313, and 492
# on a slower machine; a third of that has gone to `make test-slow` since.
_BUDGET = 500.0

# Tracing makes many objects that stay: by default a tenth of a session's time
# goes into looking for garbage among them.
gc.set_threshold(100_000, 50, 100)

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUM_CPU_DEVICES'] = '8'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
# XLA's threads: a sum is split over them, so its last bits depend on how many
# there are, and one process with two devices has never less than two.
os.environ['NPROC'] = '2'


def _compiled_here() -> pathlib.Path:
  """Folder for programs of these versions and this processor."""
  facts = [metadata.version('jax'), metadata.version('jaxlib')]
  facts.append(platform.machine())
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    facts += [x for x in lines if x.startswith(('model name', 'flags'))][:2]
  except OSError:
    facts.append(platform.processor())
  key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:16]
  return _COMPILED / key


os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_compiled_here()))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

# absltest's temporary directories read flags; pytest does not parse any.
flags.FLAGS.mark_as_parsed()

# Started in the background, a shell's children ignore Ctrl-C, and so would the
# processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Started by nohup, they ignore that their terminal goes, as is right for a run.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config):
  """Makes what all workers of a session share; they inherit its place."""
  config.pluginmanager.register(_Costs(), 'costs')
  if 'PYTEST_XDIST_WORKER' in os.environ:
    return
  folder = tempfile.mkdtemp(prefix='tests-')
  os.environ['TESTS_SESSION_DIR'] = folder
  config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
  for path in _COMPILED.glob('*'):
    if path != _compiled_here() or _bytes(path) > _COMPILED_BYTES:
      shutil.rmtree(path, ignore_errors=True)


def _bytes(folder: pathlib.Path) -> int:
  return sum(path.stat().st_size for path in folder.iterdir())


class _Costs:
  """Counts the CPU seconds of tests, their processes included."""

  def __init__(self):
    self._last = 0.0
    self._of_files = collections.Counter()
    self._of_benchmarks = collections.Counter()

  def pytest_runtest_logstart(self):
    self._last = _cpu_seconds()

  @pytest.hookimpl(wrapper=True)
  def pytest_runtest_makereport(self):
    report = yield
    now = _cpu_seconds()
    report.cpu_seconds, self._last = now - self._last, now
    return report

  def pytest_runtest_logreport(self, report):
    seconds = getattr(report, 'cpu_seconds', 0.0)
    self._of_files[report.nodeid.partition('::')[0]] += seconds
    for name in _BENCHMARKS:
      if re.search(rf'(?<![a-z0-9]){name}(?![a-z0-9])', report.nodeid):
        self._of_benchmarks[name] += seconds

  def _too_dear(self):
    return {n: s for n, s in self._of_benchmarks.items() if s > _BUDGET}

  @pytest.hookimpl(tryfirst=True)
  def pytest_sessionfinish(self, session):
    if self._too_dear() and session.exitstatus == pytest.ExitCode.OK:
      session.exitstatus = pytest.ExitCode.TESTS_FAILED

  def pytest_terminal_summary(self, terminalreporter):
    write = terminalreporter.write_line
    total = sum(self._of_files.values())
    write(f'{total:.0f} CPU seconds; most of them:')
    for name, seconds in self._of_files.most_common(10):
      write(f'{seconds:8.1f} {name}')
    for name, seconds in self._too_dear().items():
      write(
        f'FAILED: expected at most {_BUDGET:.0f} CPU seconds in all tests of '
        f'{name}, got {seconds:.0f}',
        red=True,
      )


_BENCHMARKS = sorted(
  path.parent.name
  for path in (_ROOT / 'suite' / 'benchmarks').glob('*/__init__.py')
)


def _cpu_seconds() -> float:
  return sum(os.times()[:4])
