"""Scripts in studies/ run, and take the flags that pages give them.

Most do so in `make test-slow`, as their imports alone take a minute; in
`make test` all are held to the flags that they define.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys

from absl import flags
from absl.testing import absltest, parameterized
import pytest

from suite import files
from tests import docs_test
from tests.launch import processes

# The smallest form of each script, and packages that it needs.
_SMALLEST = {
  'audit_speed': ('--megabytes=1', '--big=0'),
  'beam_search_pytorch': (
    '--width=64', '--layers=1', '--vocabulary=99', '--rows=2', '--length=4',
    '--extra=2', '--beams=2', '--repeats=1',
  ),
  'bert_pytorch': ('--width=64', '--layers=1', '--samples=4', '--steps=1'),
  'bert_rows': ('--batch=16',),
  'checkpoint_cost': (
    '--megabytes=2', '--every=1', '--saves=1', '--leaves=2',
  ),
  'curve_table': ('resnet',),
  'data_size': ('--batch=64', '--steps=1', '--shrink=2000'),
  'dlrm_pytorch': ('--steps=1', '--table_cap=3000', '--batch=128'),
  'gnmt_pytorch': (
    '--parts=lstm', '--vocabulary=99', '--layers=2', '--width=16', '--rows=2',
    '--length=3', '--repeats=1',
  ),
  'input_loop': (
    '--jpegs=8', '--batch=4', '--steps=2', '--slow_steps=2', '--turns=1',
  ),
  'input_speed': ('--images=128', '--rounds=1'),
  'loop_overhead': ('--steps=4', '--turns=1'),
  'ncf_pytorch': ('--steps=1',),
  'negative_sampling': (
    '--users=2000', '--items=4000', '--pairs=40000', '--samples=99999',
    '--rounds=1',
  ),
  'padding_waste': ('--pairs=2000',),
  'rnnt_speed': (
    '--what=input,lattice,memory', '--turns=1', '--seconds=1', '--rows=1',
    '--frames=8', '--symbols=4', '--classes=16', '--joint=8', '--block=2',
  ),
  'score_speed': ('--folders=1', '--megabytes=0.1', '--turns=1'),
  'self_play_speed': (
    '--board=5', '--seconds=0.1', '--turns=1', '--places=2', '--readouts=8',
  ),
  'transformer_pytorch': (
    '--dtypes=float32', '--width=64', '--layers=1', '--vocabulary=99',
    '--rows=2', '--length=4', '--steps=1',
  ),
  'unet3d_pytorch': (
    '--what=step,eval', '--filters=4,8', '--side=8', '--rows=1', '--turns=1',
    '--threads=1',
  ),
}  # fmt: skip
# Run by tests of their own, or by hand with data that takes long to prepare.
_ELSEWHERE = {
  'audit_published': 'audit_published_test.py',
  'gnugo/play_gnugo': 'gnugo/play_gnugo_test.py, with GNU Go',
  'bert_start': 'needs BERT\'s data and checkpoint',
  'click_speed': 'needs clicks',
  'curves': 'trains whole runs',
}  # fmt: skip


def _scripts():
  """Names of all scripts that are run by themselves."""
  folder = files.ROOT / 'studies'
  return sorted(
    path.relative_to(folder).with_suffix('').as_posix()
    for path in folder.rglob('*.py')
    if "__name__ == '__main__'" in path.read_text(encoding='utf-8')
  )


def _defined(path):
  """The flags of a script, and of those of studies that it imports.

  They are made of its text, as the imports of all scripts take a minute.
  """
  made = flags.FlagValues()
  text = path.read_text(encoding='utf-8')
  for name in re.findall(r'^from studies import (\w+)', text, re.M):
    text += (files.ROOT / f'studies/{name}.py').read_text(encoding='utf-8')
  # _count = functools.partial(flags.DEFINE_integer, lower_bound=1)
  named = dict(
    re.findall(r'^(\w+) = .*partial\(flags\.(DEFINE_\w+)', text, re.M)
  )
  for call in ast.walk(ast.parse(text)):
    if not isinstance(call, ast.Call):
      continue
    kind = getattr(call.func, 'attr', named.get(getattr(call.func, 'id', '')))
    if kind and kind.startswith('DEFINE_'):
      name, _, *more = call.args
      values = [ast.literal_eval(more[0])] if kind == 'DEFINE_enum' else []
      getattr(flags, kind)(
        ast.literal_eval(name), None, *values, '', flag_values=made
      )
  return made


class StartTest(absltest.TestCase):
  def test_every_script_has_a_smallest_form_or_a_test_of_its_own(self):
    self.assertCountEqual(_scripts(), [*_SMALLEST, *_ELSEWHERE])

  def test_every_script_takes_the_flags_that_it_is_given(self):
    asked = [(f'studies/{n}.py', list(a)) for n, a in _SMALLEST.items()]
    asked += [c for c in docs_test.commands() if c[0].startswith('studies/')]
    self.assertGreater(len(asked), len(_SMALLEST) + 20)
    for script, arguments in asked:
      with self.subTest(' '.join([script, *arguments])):
        _defined(files.ROOT / script)([script, *arguments])

  def test_a_flag_that_a_script_lacks_would_be_noticed(self):
    parse = _defined(files.ROOT / 'studies/loop_overhead.py')
    for wrong in ('--step=1', '--steps=few'):
      with self.assertRaises(flags.Error):
        parse(['loop_overhead', wrong])


class RunTest(parameterized.TestCase):
  def run_script(self, name):
    done = subprocess.run(
      [sys.executable, f'studies/{name}.py', *_SMALLEST[name]],
      cwd=files.ROOT,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'OMP_NUM_THREADS': '1'},
      capture_output=True,
      text=True,
      timeout=processes.LONGEST,
    )
    self.assertEqual(done.returncode, 0, done.stderr[-3000:])
    self.assertNotEmpty(done.stdout)

  @parameterized.parameters('curve_table', 'padding_waste')
  def test_a_quick_script_runs(self, name):
    self.run_script(name)

  @parameterized.parameters(*_SMALLEST)
  @pytest.mark.slow
  def test_every_script_runs_in_its_smallest_form(self, name):
    if 'pytorch' in name and importlib.util.find_spec('torch') is None:
      self.skipTest('needs torch: the extra dev')
    self.run_script(name)


if __name__ == '__main__':
  absltest.main()
