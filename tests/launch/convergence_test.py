"""`launch.convergence`: verdicts, points and recipes, as people get them."""

import contextlib
import io
import json
import os
import pathlib

from absl.testing import absltest, parameterized
from mlperf_logging.rcp_checker import rcp_checker

from launch import convergence
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.results.convergence import store
from tests.launch import processes
from tests.suite.results.audit import audit_logs

_ORIGIN = {'Creator': 'us', 'When': 'today', 'Platform': 'here'}
_RESNET = pathlib.Path('suite/benchmarks/resnet')


def _printed(action, *arguments, **named):
  """-> what it returned and the lines that it printed."""
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    code = action(*arguments, **named)
  return code, out.getvalue().splitlines()


class CheckTest(parameterized.TestCase):
  """Sets of runs, made up, of resnet at its official and its tiny size."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)

  def write(self, epochs, size='tiny', name='runs', **changes):
    """Runs of a real benchmark that meet the target after so many epochs."""
    benchmark = benchmark_lib.get('resnet')
    declared = benchmark.size(size).hparams
    folder = self.directory / name
    folder.mkdir(exist_ok=True)
    for run, last in enumerate(epochs):
      settings = hparams.override(
        declared,
        {key: str(value) for key, value in changes.items()},
        hparams.Division.OPEN,
      )
      between, first = settings.epochs_between_evals, settings.eval_offset + 1
      low = [0.5] * ((last - first) // between)
      events = audit_logs.good(
        run=run,
        size=size,
        benchmark=benchmark,
        hparams=settings,
        qualities=(*low, 0.99),
      )
      audit_logs.write(folder / f'result_{run}.txt', events)
    return str(folder)

  def check(self, *folders, ruleset='', rcps=''):
    return _printed(convergence.check, folders, ruleset=ruleset, rcps=rcps)

  def test_tiny_runs_are_held_to_the_points_that_ship(self):
    code, lines = self.check(self.write((13, 12, 14, 13, 15)))
    self.assertEqual(code, 0)
    self.assertIn('epochs to the target: 13, 12, 14, 13, 15', lines[0])
    self.assertIn('batch 128', lines[0])
    self.assertEqual(
      lines[1:],
      [
        'Passes: 13.3333 epochs on average at batch 128, no fewer than the '
        '13.2222 of the reference.'
      ],
    )

  def test_runs_that_are_too_fast_fail(self):
    slow = self.write((13, 12, 14, 13, 15))
    fast = self.write((9, 8, 9, 10, 9), name='fast')
    code, lines = self.check(slow, fast)
    self.assertEqual(code, 1)
    self.assertStartsWith(lines[-1], 'Too fast: 9 epochs on average')

  def test_the_round_is_the_logs_own_or_the_one_asked_for(self):
    folder = self.write((35,) * 5, size='reference', global_batch_size=3264)
    self.assertIn('35.1538', self.check(folder)[1][-1])
    self.assertEqual(
      self.check(folder)[1][-1], self.check(folder, ruleset='1.0.0')[1][-1]
    )
    with self.assertRaisesRegex(ValueError, "in ruleset '6.1.0'"):
      self.check(folder, ruleset='6.1.0')
    with self.assertRaisesRegex(ValueError, 'got both'):
      self.check(folder, ruleset='1.0.0', rcps='FILE')

  def test_a_file_of_points_can_be_given(self):
    folder = self.write((13,) * 5)
    points = convergence.make(
      [self.write((30,) * 5 + (31, 29) * 3, name='slow')], origin=_ORIGIN
    )
    path = self.create_tempfile().full_path
    store.save(path, points)
    code, lines = self.check(folder, rcps=path)
    self.assertEqual(code, 1)
    self.assertIn('fewer than the 30 of the reference', lines[-1])

  def test_other_faults_of_the_logs_are_told(self):
    _, lines = self.check(self.write((13, 12, 14)))
    self.assertIn('launch.check finds other errors here: 1.', lines[1])

  def test_a_folder_without_runs_is_refused(self):
    for name in ('none', ''):
      with self.assertRaisesRegex(ValueError, 'Expected'):
        self.check(str(self.directory / name))

  def test_points_are_made_of_folders_of_runs_by_batch_size(self):
    epochs = (13, 14, 15, 12, 11, 13, 14, 12, 13, 16)
    self.write(epochs, name='b', global_batch_size=256)
    self.write(epochs[::-1], name='a')
    points = convergence.make([str(self.directory)], origin=_ORIGIN)
    path = self.create_tempfile().full_path
    store.save(path, points)
    with open(path, encoding='utf-8') as file:
      checker = rcp_checker.RCP_Checker(
        'training', '4.0.0', 'resnet', False, rcp_file=file
      )
    self.assertEqual([r['BS'] for r in checker.rcp_data.values()], [128, 256])
    written = json.loads(pathlib.Path(path).read_text())
    self.assertEqual(
      written['resnet_ref_128']['Epochs to converge'], list(epochs[::-1])
    )
    self.assertEqual(written['resnet_ref_256']['Creator'], 'us')
    self.assertEqual(
      written['resnet_ref_256']['Hyperparams']['lars_opt_base_learning_rate'],
      5.0,
    )

  def test_runs_that_are_no_reference_make_no_points(self):
    def make(*folders):
      return convergence.make(folders, origin=_ORIGIN)

    with self.assertRaisesRegex(ValueError, 'at least 10 runs .* got 9'):
      make(self.write((13,) * 9))
    ten = self.write((13,) * 10)
    with self.assertRaisesRegex(ValueError, 'seed of its own for each'):
      make(ten, ten)
    log = pathlib.Path(ten) / 'result_3.txt'
    good = log.read_text()
    log.write_text(good.replace('"success"', '"aborted"'))
    with self.assertRaisesRegex(ValueError, 'run 3 did not'):
      make(ten)
    log.write_text(good.replace('"cache_clear"', '"cache_kept"'))
    with self.assertRaisesRegex(ValueError, 'sound logs .* result_3.txt'):
      make(ten)
    ten = self.write((13,) * 10)
    with self.assertRaisesRegex(ValueError, 'batch 128; .*decay_steps differ'):
      make(ten, self.write((13,) * 10, name='other', decay_steps=621))

  def test_a_seed_in_forty_may_miss_the_target_and_is_left_out(self):
    benchmark = benchmark_lib.get('resnet')
    size = benchmark.size('tiny')

    def make(missed):
      rows = [
        f'reference,{seed},{epoch},{epoch},1.0,{quality}'
        for seed in range(40)
        for epoch, quality in ((7, 0.5), (8, 0.5 if seed < missed else 0.99))
      ]
      path = audit_logs.directory(self) / f'{missed}.csv'
      path.write_text(
        '\n'.join(('variant,seed,epoch,step,seconds,accuracy', *rows))
      )
      return convergence.make_from_curves(
        str(path), benchmark, size, origin=_ORIGIN
      )

    made, lines = _printed(make, 1)
    self.assertEqual(made.points[0].values, (8,) * 39)
    self.assertEqual(lines[0].split(':')[0], 'left out')
    with self.assertRaisesRegex(ValueError, 'at least 97% .* got 38 of 40'):
      make(2)


class RecipeTest(parameterized.TestCase):
  """Recipes that are printed."""

  def recipe(self, batch_size, **named):
    return _printed(
      convergence.print_recipe,
      benchmark_lib.get('resnet'),
      'reference',
      batch_size,
      **named,
    )

  def test_a_recipe_ends_in_a_command_that_launch_train_takes(self):
    code, lines = self.recipe(6144)
    self.assertEqual(code, 0)
    self.assertStartsWith(lines[0], 'warning: Interpolated between')
    command = lines[-1].split()
    self.assertEqual(
      command[:5],
      ['python', '-m', 'launch.train', '--benchmark=resnet',
       '--size=reference'],
    )  # fmt: skip
    given = dict(f.removeprefix('--hp=').split('=', 1) for f in command[5:])
    made = hparams.override(
      benchmark_lib.get('resnet').size('reference').hparams,
      given,
      hparams.Division.CLOSED,
    )
    self.assertEqual(made.global_batch_size, 6144)

  def test_a_recipe_that_closed_forbids_says_so(self):
    _, lines = self.recipe(4096, ruleset='1.0.0')  # weight decay 2e-3
    self.assertIn('--division=open', lines[-1])
    self.assertTrue(any('Not allowed in the Closed' in line for line in lines))

  def test_outside_the_points_a_batch_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'go from 1632 to 67840'):
      self.recipe(1024)


class ProgramTest(absltest.TestCase):
  """The program as a process."""

  def test_the_shipped_points_are_what_the_program_makes_of_the_curves(self):
    ruleset = benchmark_lib.get('resnet').size('tiny').ruleset
    shipped = processes.ROOT / _RESNET / 'rcps' / f'{ruleset}.json'
    made = audit_logs.directory(self) / 'made.json'
    (record,) = json.loads(shipped.read_text()).values()
    done = processes.run(
      'launch.convergence',
      f'--curves={_RESNET / "curves.csv"}',
      f'--make={made}',
      *[f'--{k.lower()}={record[k]}' for k in _ORIGIN],
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    (again,) = json.loads(made.read_text()).values()
    self.assertEqual(again['Epochs to converge'], record['Epochs to converge'])
    self.assertContainsSubset(record['Hyperparams'], again['Hyperparams'])
    self.assertIn('20 runs, 13.2222 epochs', done.stdout)
    self.assertEqual(os.listdir(made.parent), ['made.json'])

  def test_bad_usage_is_refused_in_one_line(self):
    for arguments in ((), ('--make=FILE', '--runs=none', '--curves=none')):
      done = processes.run('launch.convergence', *arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertEqual(done.stdout, '')
      self.assertStartsWith(done.stderr, 'error: ')
      self.assertLen(done.stderr.splitlines(), 1)


if __name__ == '__main__':
  absltest.main()
