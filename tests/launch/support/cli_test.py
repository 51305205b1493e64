"""Tests of what the command line says: help, refusals, what there is."""

import os
import re

from absl.testing import absltest, parameterized

from launch.support import cli, listing, run_flags
from suite import benchmark
from suite.run import program
from tests.launch import digits_data, processes

# What a command that only says something must not wait for.
_HEAVY = ('jax', 'grain', 'optax', 'scipy.stats', 'tensorflow_datasets')


def _imported(module, *arguments):
  """Runs an entrypoint; -> exit code, stdout, heavy modules it imported."""
  program_text = (
    'import atexit, runpy, sys\n'
    f'heavy = {_HEAVY}\n'
    'atexit.register(lambda: print("imported", '
    '*[m for m in heavy if m in sys.modules], file=sys.stderr))\n'
    f'sys.argv = ["{module}", *{arguments!r}]\n'
    f'runpy.run_module("{module}", run_name="__main__", alter_sys=True)\n'
  )
  done = processes.run_program(program_text)
  heavy = re.findall(r'^imported(.*)$', done.stderr, re.MULTILINE)
  return done.returncode, done.stdout, heavy[-1].split()


class HelpTest(parameterized.TestCase):
  @parameterized.parameters('launch.cluster.supervising', 'launch.local')
  def test_what_only_watches_ranks_imports_nothing_heavy(self, module):
    code, _, heavy = _imported(module, '--help')
    self.assertEqual((code, heavy), (0, []))

  def test_what_is_needed_first_comes_first_and_the_rest_is_in_helpfull(self):
    code, out, heavy = _imported('launch.train', '--help')
    self.assertEqual((code, heavy), (0, []))
    self.assertStartsWith(out, 'Trains one benchmark once')
    titles = re.findall(r'^([A-Z][\w ]+):$', out, re.MULTILINE)
    self.assertEqual(titles[:2], [cli.WHAT, cli.RESULT])
    first = re.findall(r'^  --(?:\[no\])?(\w+):', out, re.MULTILINE)
    self.assertEqual(first[:2], ['benchmark', 'size'])
    self.assertContainsSubset({'data_dir', 'hp', 'output', 'list'}, first)
    self.assertLess(len(first), 14)
    for name in benchmark.names():
      self.assertIn(name, out)

    code, out, _ = _imported('launch.train', '--helpfull')
    every = re.findall(r'^  --(?:\[no\])?(\w+):', out, re.MULTILINE)
    self.assertEqual(code, 0)
    self.assertContainsSubset(first, every)
    self.assertContainsSubset({'spread', 'watchdog_seconds', 'run'}, every)
    self.assertIn(f'{cli.HOSTS}:', out)
    self.assertIn(f'{cli.SUBMISSION}:', out)

  @parameterized.parameters('launch.check', 'launch.score')
  def test_a_small_command_shows_all_it_has(self, module):
    code, out, heavy = _imported(module, '--help')
    self.assertEqual((code, heavy), (0, []))
    self.assertIn('--ruleset: ', out)
    self.assertNotIn('--benchmark', out)

  def test_no_command_has_a_flag_that_does_nothing_there(self):
    code, out, _ = _imported('launch.compile', '--helpfull')
    self.assertEqual(code, 0)
    for name in ('data_dir', 'checkpoint_minutes', 'watchdog_seconds', 'run'):
      self.assertNotRegex(out, rf'--(\[no\])?{name}:')
    self.assertRegex(out, r'--system:')
    self.assertRegex(out, r'--hp:')
    more = r'have more \(--list\): 9x9, expanded, v0\.5, v0\.6, [v0-9., ]+\.'
    self.assertRegex(' '.join(out.split()), more)

  def test_ways_to_spread_are_those_of_the_program(self):
    self.assertEqual(run_flags.SPREADS, program.SPREADS)


class ListTest(absltest.TestCase):
  def test_every_size_is_listed_and_whether_its_data_is_prepared(self):
    code, out, heavy = _imported(
      'launch.train', '--list', f'--data_dir={digits_data.data_dir()}'
    )
    self.assertEqual((code, heavy), (0, []))
    rows = [re.split(' {2,}', line)[:2] for line in out.splitlines()[1:]]
    sizes = [
      [benchmark.get(name).label, size]
      for name in benchmark.names()
      for size in benchmark.get(name).sizes
    ]
    self.assertEqual(rows, sizes)
    where = os.path.join(digits_data.data_dir(), 'digits')
    self.assertRegex(out, rf'resnet +tiny .* digits: in {where}')
    self.assertIn('launch.prepare_data --dataset=imagenet2012', out)

  def test_without_any_data_it_says_how_to_prepare_it(self):
    text = listing.benchmarks(self.create_tempdir().full_path)
    self.assertIn('not prepared (launch.prepare_data --dataset=digits)', text)


if __name__ == '__main__':
  absltest.main()
