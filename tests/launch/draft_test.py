"""A draft: found, trained, tested and marked from its first commit.

Its folder lies outside of the repository, on the path of the benchmarks.
"""

import contextlib
import dataclasses
import importlib.util
import io
import itertools
import os
import pathlib
import re
import subprocess
import sys
import types
import unittest
from unittest import mock

from absl.testing import absltest
import numpy as np

from input_pipelines.reading import arrays
from input_pipelines.writing import weights
from launch import report, score
from launch.support import listing
from suite import benchmark, benchmarks, files, hparams
from suite.results import audit, records
from tests import benchmark_runs
from tests.launch import processes

_DECLARATION = '''"""A line through points: a draft for tests."""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import Scales, fixed, tunable
from suite.target import Target


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The one recipe."""

  global_batch_size: int = tunable(16, 'Rows.', key='global_batch_size')
  rate: float = tunable(0.1, 'Rate.', scales=Scales.RATE)
  max_epochs: int = fixed(3, 'The run ends here.')


BENCHMARK = Benchmark(
  name='line',
  runs=3,
  dropped=0,
  draft=True,
  sizes={
    'tiny': Size(
      hparams=Hparams(),
      target=Target(at_least={'accuracy': 0.8}),
      ruleset='podium-tiny-1',
      data=DataSet('', train_samples=48, eval_samples=20),
    ),
  },
)
'''
_TASK = '''"""A line through points, as a task."""

from tests.suite.run.fake_task import FakeTask


def make_task(hp, data):
  """Three epochs of which the last meets the target."""
  assert hp.global_batch_size == 16 and data.train_samples == 48
  qualities = [0.5, 0.7, 0.9][: hp.max_epochs]
  return FakeTask(qualities, rate=hp.rate)
'''
# Runs what follows with the folder on the path of the benchmarks.
_WITH = 'import sys; from suite import benchmarks; '
_WITH += 'benchmarks.__path__.append(sys.argv.pop(1)); '
_TRAIN = 'from launch import train; from launch.support import cli; '
_TRAIN += 'cli.run(train.main, define=train.define_flags)'


class DraftTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir())
    (self.folder / 'line').mkdir()
    (self.folder / 'line' / '__init__.py').write_text(_DECLARATION)
    (self.folder / 'line' / 'task.py').write_text(_TASK)

  def python(self, code, *arguments):
    """Runs code that finds the folder; returns the process."""
    return subprocess.run(
      [sys.executable, '-c', _WITH + code, str(self.folder), *arguments],
      cwd=processes.ROOT,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
      capture_output=True,
      text=True,
      check=False,
    )

  def found(self):
    """Puts the folder on the path of this process, for one test."""
    path = [*benchmarks.__path__, str(self.folder)]
    self.enter_context(mock.patch.object(benchmarks, '__path__', path))
    self.addCleanup(sys.modules.pop, 'suite.benchmarks.line', None)

  def count_of(self, path, names='.'):
    """Runs the tests of a module as it is loaded now; their number."""
    spec = importlib.util.spec_from_file_location(
      f'{pathlib.Path(path).stem}_again', processes.ROOT / path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = unittest.TestResult()
    count = 0
    for case in itertools.chain(
      *unittest.TestLoader().loadTestsFromModule(module)
    ):
      if re.search(names, case.id()):
        case.run(found)
        count += 1
    self.assertEqual([*found.failures, *found.errors], [])
    return count

  def test_it_is_listed_as_a_draft_and_others_are_not(self):
    self.found()
    self.assertIn('line', benchmark.names())
    self.assertNotIn('line', benchmark.finished())
    first = [
      line.split('  ')[0] for line in listing.benchmarks('').splitlines()
    ]
    self.assertIn('line (draft)', first)
    self.assertIn('resnet', first)

  def test_its_log_record_score_and_report_say_draft(self):
    output = self.create_tempdir().full_path
    ran = self.python(
      _TRAIN, '--benchmark=line', f'--output={output}', '--progress=none',
      '--data_dir=/nonexistent',
    )  # fmt: skip
    self.assertEqual(ran.returncode, 0, ran.stderr)
    self.found()
    log = pathlib.Path(output, 'result_0.txt').read_text()
    self.assertRegex(log, r'"key": "podium_draft", "value": true')
    self.assertTrue(records.read_run(os.path.join(output, 'run_0.json')).draft)
    checked = audit.examine_set(output)
    rules = {f.rule for f in checked.findings if f.severity == audit.ERROR}
    self.assertEqual(rules, {'number of runs'})  # of three there is one
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      score.run(output)
    self.assertIn('line, size tiny, closed, draft\n', printed.getvalue())
    made = files.read_json(os.path.join(output, 'score.json'))
    self.assertTrue(made['draft'])
    self.assertRegex(' '.join(made['findings']), 'got a draft')
    page = pathlib.Path(report.write(output)).read_text()
    self.assertIn('<span>draft benchmark</span>', page)

  def test_a_changed_byte_of_its_start_weights_ends_a_run_in_one_line(self):
    declared = _DECLARATION.replace('Size\n', 'Size, Start\n', 1)
    declared = declared.replace(' data=', " start=Start('start'), data=")
    (self.folder / 'line' / '__init__.py').write_text(declared)
    task = _TASK + "\n\nFakeTask.given = ('^params/',)\n"
    (self.folder / 'line' / 'task.py').write_text(task)
    directory = weights.write(
      self.folder, 'start', '1.0.0', {'params/slope': np.float32(2)}, {},
      summary='A slope to start from.',
    )  # fmt: skip
    path = pathlib.Path(directory, arrays.WEIGHTS)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ran = self.python(
      _TRAIN, '--benchmark=line', f'--output={self.folder}/runs',
      f'--data_dir={self.folder}', '--progress=none',
    )  # fmt: skip
    self.assertEqual(ran.returncode, 1, ran.stderr)
    self.assertRegex(ran.stderr, r"error: Expected the SHA-256 .*params/slope'")
    self.assertNotIn('Traceback', ran.stderr)

  def test_it_passes_what_is_tested_of_every_benchmark(self):
    self.found()
    small = types.ModuleType('tests.suite.benchmarks.line_small')
    small.SIZE = benchmark.get('line').size('tiny')
    self.enter_context(mock.patch.dict(sys.modules, {small.__name__: small}))
    self.addCleanup(benchmark_runs.small.cache_clear)
    with mock.patch.object(benchmark, 'names', return_value=['line']):
      self.assertGreater(
        self.count_of('tests/benchmarks_test.py', '^((?!unknown).)*$'), 5
      )

  def test_nobody_asks_for_its_curves_and_points_yet(self):
    self.found()
    self.assertGreater(self.count_of('tests/targets_test.py', 'Targets'), 5)
    points = 'tests/suite/results/convergence_test.py'
    self.assertGreater(self.count_of(points, 'ships_points|that_ship'), 5)

  def test_the_example_of_the_readme_is_a_declaration(self):
    text = (processes.ROOT / 'README.md').read_text()
    names = {'dataclasses': dataclasses, **vars(hparams)}
    exec(re.search(r'```python\n(.*?)```', text, re.DOTALL)[1], names)
    declared = names['Hparams']()
    hparams.require_valid(declared)
    self.assertEqual(hparams.batch(declared).value, 256)

  def test_the_readme_has_every_benchmark_and_marks_drafts(self):
    text = (processes.ROOT / 'README.md').read_text()
    for name in benchmark.names():
      row = rf'^\| `{name}`(?: \(draft\))? \|.*$'
      rows = re.findall(row, text, re.MULTILINE)
      self.assertLen(
        rows, 1, f'Expected one row of `{name}` in the tables of README.md.'
      )
      self.assertEqual('draft' in rows[0], benchmark.get(name).draft, rows[0])


if __name__ == '__main__':
  absltest.main()
