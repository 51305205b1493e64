"""`launch.package`: from results to a submission that the checkers accept."""

import contextlib
import io
import json
import os
import pathlib
import shutil

from absl.testing import absltest, flagsaver, parameterized

from launch import package
from launch.support import sources, system, versions
from suite import files
from suite.results import audit
from suite.results import submission as packages
from suite.results.audit import system as descriptions
from tests.launch import entrypoint_flags
from tests.suite.results import sample_results, submissions
from tests.suite.results.audit import audit_logs

_REST = {
  field: ''
  for field in descriptions.FIELDS
  if field.startswith(('host_', 'cooling'))
} | {'host_processors_per_node': '1'}


def setUpModule():
  global _flags
  _flags = entrypoint_flags.define(package)


def tearDownModule():
  entrypoint_flags.remove(_flags)


def _records(folder, runs, **changes):
  for run in range(runs):
    record = sample_results.result(
      run,
      system={**system.describe(), **changes},
      versions=versions.found(),
      command=['python', '-m', 'launch.train', f'--run={run}', "--x='`\n"],
      data={'name': 'imagenet2012', 'fingerprint': 'sha256:00'},
    )
    files.write_json(files.record_path(str(folder), run), record)


class PackageTest(parameterized.TestCase):
  """Official results of one benchmark, as a program leaves them."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    self.results = self.directory / 'first'
    submissions.write_set(self.results)
    _records(self.results, 5)
    (self.results / 'report.html').write_text('')
    self.output = self.directory / 'out' / 'mine'
    self.rest = self.directory / 'rest.json'
    self.rest.write_text(json.dumps(_REST))

  def package(self, *results, get=None, **changes):
    """Runs the program; -> exit code and what was printed."""
    values = {
      'results': [str(folder) for folder in results or (self.results,)],
      'output': str(self.output),
      'submitter': '',
      'system': 'acme_cpu',
      'description': str(self.rest),
      'field': [],
      'unofficial': False,
      **changes,
    }
    printed = io.StringIO()
    with flagsaver.flagsaver(**values), contextlib.redirect_stdout(printed):
      code = package.main(**({'get': get} if get else {}))
    return code, printed.getvalue()

  def refused(self, text, *results, **changes):
    with self.assertRaisesRegex(ValueError, text):
      self.package(*results, **changes)
    self.assertFalse(self.output.exists())

  def nothing_left(self):
    left = (
      [*self.output.parent.iterdir()] if self.output.parent.exists() else []
    )
    return not left

  def test_the_tree_passes_the_official_package_checker_and_ours(self):
    code, text = self.package()
    self.assertEqual(code, 0, text)
    self.assertEmpty(audit.examine(self.output, ruleset='4.0.0').findings)
    copy = self.directory / 'copy'
    shutil.copytree(self.output, copy)
    self.assertTrue(submissions.officially_accepted(copy / 'acme', '4.0.0'))

  def test_a_newer_round_passes_too(self):
    llama = self.directory / 'llama'
    submissions.write_set(llama, 'llama31_8b')
    _records(llama, 10)
    code, text = self.package(llama, field=['status=Available cloud'])
    self.assertEqual(code, 0, text)
    self.assertTrue(
      submissions.officially_accepted(self.output / 'acme', '6.1.0')
    )

  def test_logs_description_source_and_commands_are_in_their_places(self):
    self.package()
    org = self.output / 'acme'
    self.assertEqual(
      sorted(p.name for p in (org / 'results/acme_cpu/resnet').iterdir()),
      [f'result_{run}.txt' for run in range(5)],
    )
    for run in range(5):
      name = f'result_{run}.txt'
      self.assertEqual(
        (org / 'results/acme_cpu/resnet' / name).read_bytes(),
        (self.results / name).read_bytes(),
      )
    source = org / 'benchmarks/resnet/podium'
    self.assertTrue((source / 'launch/train.py').is_file())
    self.assertTrue((source / 'suite/results/report/template.html').is_file())
    self.assertEmpty(list(source.rglob('.*')))
    readme = (org / 'benchmarks/resnet/README.md').read_text()
    self.assertIn("    python -m launch.train --run=4 '--x='", readme)
    self.assertIn('imagenet2012, fingerprint sha256:00', readme)

  def test_the_description_says_what_the_runs_recorded(self):
    self.package(field=['cooling=air', 'sw_notes=a=b'])
    path = self.output / 'acme/systems/acme_cpu.json'
    fields = json.loads(path.read_text())
    self.assertEqual(tuple(fields), descriptions.FIELDS)
    self.assertEqual(fields['submitter'], 'acme')
    self.assertEqual(fields['division'], 'closed')
    self.assertEqual(fields['status'], 'Available on-premise')
    self.assertEqual(fields['number_of_nodes'], '1')
    self.assertEqual(fields['accelerators_per_node'], '0')
    self.assertEqual(fields['accelerator_model_name'], '')
    self.assertEqual(fields['cooling'], 'air')
    self.assertEqual(fields['sw_notes'], 'a=b')
    self.assertRegex(fields['framework'], r'^JAX [0-9.]+$')

  def test_what_is_not_known_is_asked_for_all_at_once(self):
    self.refused(
      'host_networking, host_networking_topology.*cooling.*--description=FILE',
      description='',
    )
    for run in range(5):
      (self.results / f'run_{run}.json').unlink()
    self.refused('number_of_nodes.*accelerator_model_name.*framework')

  def test_of_accelerators_it_knows_what_their_runs_recorded(self):
    _records(
      self.results, 5, platform='gpu', accelerator='NVIDIA H200', devices=8,
      accelerator_memory='143771 MiB', accelerator_clock='1980 MHz',
      accelerator_pcie_generation='5', accelerator_pcie_lanes='16',
    )  # fmt: skip
    self.refused(
      'accelerator_on-chip_memories, accelerator_memory_configuration, '
      'accelerator_interconnect, accelerator_interconnect_topology'
    )
    given = ('on-chip_memories', 'memory_configuration', 'interconnect',
             'interconnect_topology')  # fmt: skip
    code, _ = self.package(field=[f'accelerator_{name}=' for name in given])
    self.assertEqual(code, 0)
    path = self.output / 'acme/systems/acme_cpu.json'
    fields = json.loads(path.read_text())
    self.assertEqual(fields['accelerators_per_node'], '8')
    self.assertEqual(fields['accelerator_host_interconnect'], 'PCIe Gen5 x16')
    self.assertEqual(fields['accelerator_memory_capacity'], '143771 MiB')

  def test_several_processes_leave_the_number_of_nodes_open(self):
    _records(self.results, 5, processes=4)
    self.refused('number_of_nodes')

  @parameterized.parameters(
    ({'field': ['coolng=air']}, "'coolng' .did you mean 'cooling'"),
    ({'field': ['cooling']}, 'name=value'),
    ({'system': ''}, '--system is needed'),
    ({'system': '../up'}, "got '../up'"),
    ({'submitter': '../..'}, 'name of a submitter'),
    ({'description': 'none.json'}, '--description=none.json'),
    ({'results': ['none']}, 'result_<number>.txt in none'),
  )
  def test_what_cannot_be_is_refused_in_words(self, changes, text):
    self.refused(text, **changes)
    self.assertTrue(self.nothing_left())

  def test_values_that_are_no_texts_are_refused(self):
    self.rest.write_text('{"cooling": 3}')
    self.refused('cooling as a string, got 3')

  def test_nothing_is_overwritten(self):
    self.output.mkdir(parents=True)
    with self.assertRaisesRegex(ValueError, 'nothing is overwritten'):
      self.package()
    self.assertEmpty([*self.output.iterdir()])

  def test_results_that_are_not_in_order_are_not_packaged(self):
    (self.results / 'result_3.txt').unlink()
    code, text = self.package()
    self.assertEqual(code, 1)
    self.assertIn('expected 5 runs, got 4', text)
    self.assertTrue(self.nothing_left())

  def test_a_tree_with_errors_is_not_put_in_place(self):
    code, text = self.package(field=['number_of_nodes=many'])
    self.assertEqual(code, 1)
    self.assertIn("got 'many'", text)
    self.assertTrue(self.nothing_left())

  def test_a_source_that_fails_leaves_nothing(self):
    def fail(to):
      os.makedirs(to)
      raise OSError('disk full')

    results = [packages.gather(self.results)]
    fields = submissions.describe(self.directory / 'toy.json')
    with self.assertRaisesRegex(OSError, 'disk full'):
      packages.write(str(self.output), results, fields, fail, system='toy')
    self.assertTrue(self.nothing_left())

  def test_results_that_do_not_belong_together_are_refused(self):
    other = self.directory / 'other'
    shutil.copytree(self.results, other)
    self.refused('two of resnet', self.results, other)
    _records(other, 5, processor='another')
    shutil.rmtree(self.results)
    submissions.write_set(self.results, 'llama31_8b')
    self.refused('No round has all of', self.results, other)

  def test_runs_of_several_systems_are_refused(self):
    record = json.loads((self.results / 'run_2.json').read_text())
    record['system']['devices'] = 4
    files.write_json(str(self.results / 'run_2.json'), record)
    self.refused('one system, got devices')

  def test_records_that_are_none_are_refused(self):
    for text in ('[]', '{"system": 3}', '{'):
      (self.results / 'run_1.json').write_text(text)
      self.refused('run_1.json')

  def test_what_is_not_official_needs_a_word_and_says_so(self):
    tiny = self.directory / 'tiny'
    audit_logs.write_set(tiny)
    _records(tiny, 5)
    self.refused('--unofficial', tiny, get=audit_logs.get)
    code, text = self.package(tiny, get=audit_logs.get, unofficial=True)
    self.assertEqual(code, 0, text)
    org = self.output / 'acme'
    self.assertIn('Not an official', (org / 'UNOFFICIAL.md').read_text())
    self.assertTrue((org / 'results/acme_cpu/resnet-tiny').is_dir())
    fields = json.loads((org / 'systems/acme_cpu.json').read_text())
    self.assertEqual(fields['sw_notes'], 'Not an official benchmark.')


class SourcesTest(absltest.TestCase):
  """Which source goes into a submission."""

  def setUp(self):
    super().setUp()
    self.to = audit_logs.directory(self) / 'podium'

  def test_without_git_the_installed_packages_are_taken(self):
    before = sources.git
    sources.git = lambda *words: b''
    self.addCleanup(setattr, sources, 'git', before)
    self.assertIn('installed', sources.copy(str(self.to), 'unknown'))
    self.assertTrue((self.to / 'suite/run/loop.py').is_file())
    self.assertEmpty([*self.to.rglob('*.pyc')])

  def test_a_commit_of_a_run_is_taken_as_it_was(self):
    commit = versions.found()['commit'].removesuffix('+changes')
    if commit == 'unknown':
      self.skipTest('no checkout')
    said = sources.copy(str(self.to), commit)
    self.assertIn(f'commit {commit}, which ran', said)
    self.assertTrue((self.to / 'suite/run/loop.py').is_file())
    self.assertFalse((self.to / '.gitignore').exists())

  def test_changes_that_were_in_no_commit_are_told_of(self):
    if versions.found()['commit'] == 'unknown':
      self.skipTest('no checkout')
    said = sources.copy(str(self.to), 40 * 'a' + '+changes')
    self.assertIn('the two may differ', said)
    self.assertTrue((self.to / 'suite/run/loop.py').is_file())


class SystemTest(absltest.TestCase):
  """Facts that a machine tells of itself."""

  def test_every_value_is_a_text_or_a_number(self):
    described = system.describe()
    self.assertGreater(described['cores'], 0)
    self.assertGreater(described['storage_gib'], 0)
    for name, value in described.items():
      self.assertIsInstance(value, str | int | float, name)

  def test_a_disk_that_is_none_is_left_out(self):
    self.assertEmpty(system._disk('/no/such/place'))

  def test_nvidia_smi_is_asked_where_it_is(self):
    folder = audit_logs.directory(self)
    before = os.environ['PATH']
    self.addCleanup(os.environ.__setitem__, 'PATH', before)
    os.environ['PATH'] = str(folder)
    self.assertEmpty(system._nvidia())
    answer = 'NVIDIA H200, 143771 MiB, 1980 MHz, 5, 16, [N/A]'
    program = pathlib.Path(folder, 'nvidia-smi')
    program.write_text(f'#!/bin/sh\necho "{answer}"\necho "{answer}"\n')
    program.chmod(0o755)
    self.assertEqual(
      system._nvidia(),
      {
        'accelerator_model': 'NVIDIA H200',
        'accelerator_memory': '143771 MiB',
        'accelerator_clock': '1980 MHz',
        'accelerator_pcie_generation': '5',
        'accelerator_pcie_lanes': '16',
      },
    )
    program.write_text('#!/bin/sh\necho "no devices"\n')
    self.assertEmpty(system._nvidia())
    program.write_text('#!/bin/sh\nexit 9\n')
    self.assertEmpty(system._nvidia())


if __name__ == '__main__':
  absltest.main()
