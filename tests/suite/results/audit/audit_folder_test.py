"""Whole submissions: what the official tools reject, and what they miss."""

import dataclasses
import json
import os
import pathlib
import shutil
import socket
from unittest import mock

from absl.testing import absltest, parameterized

from suite.results import audit
from suite.results.audit import compared, folder, official, runs, tree
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find

_SYSTEM = 'systems/toy.json'
_RESULTS = 'results/toy/resnet'


def _log(run):
  return f'{_RESULTS}/result_{run}.txt'


def _change(org, run, key, value, which=0):
  events = submissions.events(run=run)
  find(events, key, which).value = value
  audit_logs.write(org / _log(run), events)


def _drop(org, run, key):
  events = [e for e in submissions.events(run=run) if e.key != key]
  audit_logs.write(org / _log(run), events)


def _in_every_log(key, value):
  def change(org):
    for run in range(5):
      _change(org, run, key, value)

  return change


def _field(**changes):
  return lambda org: submissions.describe(org / _SYSTEM, **changes)


def _without_field(org):
  fields = submissions.describe(org / _SYSTEM)
  del fields['cooling']
  (org / _SYSTEM).write_text(json.dumps(fields))


def _field_twice(org):
  text = (org / _SYSTEM).read_text()
  (org / _SYSTEM).write_text('{"status": "",' + text[1:])


def _fast(org):
  for run in range(5):
    audit_logs.write(org / _log(run), submissions.events(run=run, evals=8))


def _two_killed(org):
  _drop(org, 1, 'run_stop')
  _drop(org, 3, 'run_stop')


def _aborted(org, *runs):
  for run in runs:
    events = submissions.events(run=run)
    find(events, 'run_stop').metadata['status'] = 'aborted'
    find(events, 'eval_accuracy', 9).value = 0.6
    audit_logs.write(org / _log(run), events)


def _truncated(org):
  text = (org / _log(2)).read_text()
  (org / _log(2)).write_text(text[: len(text) // 2])


def _backwards(org):
  events = submissions.events(run=0)
  find(events, 'run_start').time_ms += 10**10
  audit_logs.write(org / _log(0), events)


def _write(name, text='{}'):
  def change(org):
    (org / name).parent.mkdir(parents=True, exist_ok=True)
    (org / name).write_text(text)

  return change


def _copy(source, target):
  def change(org):
    (org / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(org / source, org / target)

  return change


def _remove(name):
  return lambda org: (org / name).unlink()


def _link(name, target):
  return lambda org: (org / name).symlink_to(target)


def _link_log(org):
  (org / _log(4)).rename(org.parent / 'elsewhere.txt')
  (org / _log(4)).symlink_to('../../../../elsewhere.txt')


def _power(org):
  for run in range(4):
    (org / _RESULTS / 'power' / f'result_{run}').mkdir(parents=True)
    (org / _RESULTS / 'power' / f'result_{run}' / 'node_1').write_text('')


def _second_system(org):
  submissions.describe(org / 'systems/other.json', system_name='other')
  shutil.copytree(org / 'results/toy', org / 'results/other')


def _other_round(org):
  submissions.write_set(org / 'results/toy/llama31_8b', 'llama31_8b')


# What: (the change, the rule that we name, part of what we say).
_REJECTED = {
  'too few logs': (_remove(_log(4)), 'number of runs', 'got 4'),
  'too many logs': (
    lambda org: audit_logs.write(org / _log(5), submissions.events(run=5)),
    'number of runs',
    'got 6',
  ),
  'a log of another name': (
    lambda org: (org / _log(4)).rename(org / _RESULTS / 'result4.txt'),
    'names of logs',
    'result4.txt',
  ),
  'two logs without their end': (_two_killed, 'converged', 'got 2 of 5'),
  'two aborted runs': (
    lambda org: _aborted(org, 0, 2),
    'converged',
    'got 2 of 5',
  ),
  'a fixed hyperparameter changed': (
    _in_every_log('lars_epsilon', 0.1),
    '',
    'lars_epsilon',
  ),
  'a percentage as quality': (
    lambda org: [_change(org, r, 'eval_accuracy', 76.0, 9) for r in range(5)],
    'quality unit',
    'percent',
  ),
  'a missing seed': (lambda org: _drop(org, 3, 'seed'), 'seed', 'seed'),
  'a seed that is a text': (
    lambda org: _change(org, 3, 'seed', 'x'),
    'seed',
    "'x'",
  ),
  'a seed twice': (
    lambda org: _change(org, 3, 'seed', 1001),
    'seed',
    'that of result_1.txt',
  ),
  'a copied log': (_copy(_log(0), _log(4)), 'clones', 'a copy'),
  'several batch sizes': (
    lambda org: _change(org, 2, 'global_batch_size', 8192),
    'one set',
    'global_batch_size',
  ),
  'a convergence too fast': (_fast, 'convergence points', 'Too fast'),
  'a batch above all points': (
    _in_every_log('global_batch_size', 131072),
    'convergence points',
    'must be provided',
  ),
  'a line cut in the middle': (_truncated, 'record', 'result_2.txt'),
  'no description': (_remove(_SYSTEM), 'structure', 'systems/toy.json'),
  'a field missing': (_without_field, 'system description', 'cooling'),
  'a number for a text': (
    _field(accelerators_per_node=1),
    'system description',
    'as a string, got 1',
  ),
  'power of some runs': (_power, 'power', 'result_4'),
  'a broken description': (_write(_SYSTEM, '{'), 'system description', 'JSON'),
  'a description that is a list': (
    _write(_SYSTEM, '[]'),
    'system description',
    'JSON object',
  ),
  'a description not in UTF-8': (
    lambda org: (org / _SYSTEM).write_bytes(b'\xff\xfe{\0}\0'),
    'system description',
    'UTF-8',
  ),
}  # fmt: skip
_MISSED = {
  'caches that were not cleared': (
    _in_every_log('cache_clear', False),
    'cold caches',
    'cache_clear',
  ),
  'a clock that runs backwards': (_backwards, '', 'result_0.txt'),
  'other logs than the folder says': (
    lambda org: (org / 'results/toy/resnet').rename(org / 'results/toy/ssd'),
    'benchmark',
    "named 'resnet', got ssd",
  ),
  'logs of the other division': (
    _field(division='open'),
    'system description',
    'expected submission_division open',
  ),
  'a division in capitals': (
    _field(division='Closed'),
    'system description',
    "'closed' or 'open'",
  ),
  'a count that is none': (
    _field(number_of_nodes='two'),
    'system description',
    'number_of_nodes',
  ),
  'a count that is empty': (
    _field(accelerators_per_node=''),
    'system description',
    'accelerators_per_node',
  ),
  'no system name': (
    _field(system_name=' '),
    'system description',
    'system_name',
  ),
  'a field twice': (
    _field_twice,
    'system description',
    "'status' twice",
  ),
  'a factor from within': (
    _write(f'{_RESULTS}/scaling.json', '{"scaling_factor": 0.5}'),
    'normalisation file',
    'expected the factor 1 of the logs (ruleset 4.0.0), got 0.5',
  ),
  'a space in a name': (_write('benchmarks/a b'), 'names', 'a b'),
  'a hidden file': (_write('benchmarks/.env'), 'names', '.env'),
  'a link to nothing': (_link('benchmarks', 'none'), 'links', 'to nothing'),
  'a link out of the tree': (_link('README', '../..'), 'links', 'out of it'),
  'a link from the root': (_link('README', '/etc'), 'links', 'from the root'),
  'a link to itself': (_link('README', 'README'), 'links', 'to itself'),
  'a log that is a link': (_link_log, 'links', 'was not read'),
  'a pipe': (
    lambda org: os.mkfifo(org / 'results/toy/resnet/fifo'),
    'files',
    'a pipe',
  ),
  'no place for results': (
    lambda org: (org / 'results/empty').mkdir(),
    'structure',
    'results/empty',
  ),
  'a copied set': (_second_system, 'clones', 'a copy as in'),
  'benchmarks of two rounds': (_other_round, 'ruleset', 'of one round'),
}  # fmt: skip


class SubmissionTestCase(parameterized.TestCase):
  """A good submission of one benchmark."""

  def setUp(self):
    super().setUp()
    self.root = audit_logs.directory(self)
    self.org = submissions.write(self.root)

  def findings(self, **options):
    return audit.examine(self.root, **options).findings

  def assert_found(self, rule, text, severity=audit.ERROR, **options):
    found = self.findings(**options)
    self.assertTrue(
      any(
        f.severity == severity and rule in f.rule and text in str(f)
        for f in found
      ),
      f'no {severity} [{rule}] with {text!r} in {[*map(str, found)]}',
    )


class OracleTest(SubmissionTestCase):
  """The official package checker beside ours."""

  @parameterized.parameters(*submissions.RULESETS)
  def test_a_good_submission_passes_both(self, name):
    root = audit_logs.directory(self)
    org = submissions.write(root, name)
    for ruleset in (None, submissions.RULESETS[name]):
      found = audit.examine(root, ruleset=ruleset)
      self.assertEmpty([*map(str, found.findings)])
      self.assertIn(f'ruleset {submissions.RULESETS[name]}', found.notes[0])
    self.assertTrue(
      submissions.officially_accepted(org, submissions.RULESETS[name])
    )

  @parameterized.named_parameters((k, *v) for k, v in _REJECTED.items())
  def test_what_the_official_checker_rejects_is_found(self, change, rule, text):
    change(self.org)
    self.assert_found(rule, text)
    self.assert_found(rule, text, ruleset='4.0.0')
    self.assertFalse(submissions.officially_accepted(self.org, '4.0.0'))

  @parameterized.named_parameters((k, *v) for k, v in _MISSED.items())
  def test_what_the_official_checker_misses_is_found(self, change, rule, text):
    change(self.org)
    self.assert_found(rule, text)
    self.assertTrue(submissions.officially_accepted(self.org, '4.0.0'))

  def test_a_single_run_that_did_not_converge_is_accepted_by_both(self):
    _drop(self.org, 1, 'run_stop')
    self.assert_found('required', 'counts as the slowest', audit.WARNING)
    self.assertEmpty(audit.errors(self.findings()))
    _aborted(self.org, 1)
    self.assertEmpty(audit.errors(self.findings()))

  def test_a_factor_that_the_official_checker_wrote_is_no_fault(self):
    for run in range(5):
      events = submissions.events(run=run, evals=9)
      find(events, 'global_batch_size').value = 3264
      audit_logs.write(self.org / _log(run), events)
    found = audit.examine(self.root)
    self.assertEmpty([*map(str, found.findings)])
    self.assertIn('times are multiplied by 1.0044', found.notes[0])
    self.assertTrue(submissions.officially_accepted(self.org, '4.0.0'))
    checked = runs.examine_set(self.org / _RESULTS, ruleset='4.0.0')
    guessed = {
      number: dataclasses.replace(
        run,
        claim=dataclasses.replace(
          run.claim, others=('3.1.0', '5.0.0'), chosen=official.KEYS
        ),
      )
      for number, run in checked.runs.items()
    }
    self.assertEqual(
      compared.alternatives(guessed, checked.name, checked.benchmark),
      'found from its keys; 3.1.0 (times x 1.0044), 5.0.0 (no points) fit as '
      'well: --ruleset chooses',
    )
    left = self.org / _RESULTS / 'scaling.json'
    self.assertAlmostEqual(
      json.loads(left.read_text())['scaling_factor'], 1.0044, 4
    )
    self.assertEmpty([*map(str, audit.examine(self.root).findings)])
    left.write_text('{"scaling_factor": 1.01}')
    self.assert_found('normalisation file', 'of the logs')
    left.write_text('{"scaling_factor": ')
    self.assert_found('normalisation file', 'cannot be read')

  def test_a_status_of_other_words_is_rejected_by_both(self):
    root = audit_logs.directory(self)
    org = submissions.write(root, 'llama31_8b')
    submissions.describe(org / _SYSTEM, status='onprem')
    errors = audit.errors(audit.examine(root).findings)
    self.assertLen(errors, 1)
    self.assertIn('expected status', str(errors[0]))
    self.assertFalse(submissions.officially_accepted(org, '6.1.0'))


class FolderTest(SubmissionTestCase):
  """Findings and notes about trees."""

  def test_the_kinds_of_paths_are_told_apart(self):
    kinds = {
      '.': folder.SUBMISSION,
      'acme': folder.SUBMISSION,
      f'acme/{_SYSTEM}': folder.DESCRIPTION,
      'acme/results/toy': folder.SETS,
      f'acme/{_RESULTS}': folder.SET,
      f'acme/{_log(0)}': folder.LOG,
      'acme/systems': folder.SET,
    }
    for path, kind in kinds.items():
      self.assertEqual(folder.kind(self.root / path), kind, path)

  def test_every_kind_is_audited(self):
    for path in (_SYSTEM, 'results/toy', _RESULTS, _log(0)):
      self.assertEmpty(audit.examine(self.org / path).findings, path)
    _change(self.org, 1, 'lars_epsilon', 0.1)
    (self.org / _SYSTEM).write_text('{}')
    for path in (_SYSTEM, 'results/toy', _RESULTS, _log(1)):
      self.assertNotEmpty(audit.examine(self.org / path).findings, path)

  def test_findings_name_paths_within_the_tree(self):
    _change(self.org, 1, 'lars_epsilon', 0.1)
    files = {finding.file for finding in self.findings()}
    self.assertContainsSubset({f'acme/{_log(1)}'}, files)
    self.assertTrue(all(file.startswith('acme/') for file in files))

  def test_several_organisations_are_compared(self):
    shutil.copytree(self.org, self.root / 'emca')
    self.assert_found('clones', f'acme/{_log(0)}')

  def test_seeds_of_other_results_are_warned_of(self):
    submissions.describe(self.org / 'systems/b.json', system_name='b')
    place = self.org / 'results/b/resnet'
    place.mkdir(parents=True)
    for run in range(5):
      events = submissions.events(run=run + 2, evals=11)
      audit_logs.write(place / f'result_{run}.txt', events)
    found = self.findings()
    self.assertEqual([(f.severity, f.rule) for f in found],
                     [(audit.WARNING, 'seed')])  # fmt: skip
    self.assertIn('got 3 of those of acme/results/b/resnet', str(found[0]))

  def test_weak_scaling_may_have_more_runs(self):
    (self.org / _RESULTS).rename(self.root / 'resnet')
    for scaling in ('strong', 'weak'):
      (self.org / 'results/toy' / scaling).mkdir()
      shutil.copytree(
        self.root / 'resnet', self.org / 'results/toy' / scaling / 'resnet'
      )
    weak = self.org / 'results/toy/weak/resnet'
    for run in range(7):
      events = submissions.events(run=run + 20)
      audit_logs.write(weak / f'result_{run}.txt', events)
    self.assertEmpty([*map(str, self.findings())])
    for run in (3, 4, 5, 6):
      (weak / f'result_{run}.txt').unlink()
    self.assert_found('number of runs', 'at least 5')

  def test_an_older_round_may_have_its_own_words_for_the_status(self):
    submissions.describe(self.org / _SYSTEM, status='on-premise')
    self.assert_found('system description', 'expected status', audit.ERROR,
                      ruleset='4.0.0')  # fmt: skip
    found = self.findings(ruleset='3.1.0')
    self.assertEmpty([f for f in found if 'status' in f.text])

  def test_a_benchmark_that_a_round_has_not_is_found(self):
    self.assert_found('ruleset', 'ruleset 5.1.0', ruleset='5.1.0')

  def test_links_within_the_tree_are_no_fault(self):
    (self.org / 'benchmarks/resnet').mkdir(parents=True)
    (self.org / 'benchmarks/resnet/train.py').write_text('')
    (self.org / 'benchmarks/resnet/run.py').symlink_to('../resnet/train.py')
    self.assertEmpty([*map(str, self.findings())])

  def test_unknown_files_switches_and_missing_sources_are_warned_of(self):
    for name in ('extra.json', f'{_RESULTS}/notes.doc', 'systems/a.txt',
                 'results/toy/a.txt', 'results/a.txt'):  # fmt: skip
      (self.org / name).write_text('')
      self.assert_found('unknown', name, audit.WARNING)
    (self.org / 'package_checker_params').write_text('rcp-bypass')
    self.assert_found('bypass', 'rcp-bypass', audit.WARNING)
    (self.org / 'benchmarks').mkdir()
    self.assert_found('source', 'the source of resnet', audit.WARNING)
    submissions.describe(self.org / 'systems/b.json', system_name='toy')
    self.assert_found('structure', "'b', got none", audit.WARNING)
    self.assert_found('description', 'system_name of its own', audit.WARNING)

  def test_a_checkout_and_a_readme_are_no_fault(self):
    (self.root / '.git').mkdir()
    (self.root / '.git' / 'a b').write_text('')
    (self.org / 'README.md').write_text('')
    self.assertEmpty([*map(str, self.findings())])

  def test_results_that_are_not_official_say_so(self):
    shutil.rmtree(self.org / 'results/toy')
    place = self.org / 'results/toy/resnet-tiny'
    audit_logs.write_set(place)
    found = audit.examine(self.root, get=audit_logs.get).findings
    self.assertEqual(
      [(f.severity, f.rule) for f in found], [(audit.WARNING, 'unofficial')]
    )
    place.rename(place.with_name('resnet'))
    found = audit.examine(self.root, get=audit_logs.get).findings
    self.assertIn('benchmark', [f.rule for f in audit.errors(found)])


class HostileTreeTest(SubmissionTestCase):
  """Trees that were made to do harm."""

  def test_a_huge_file_is_told_of_and_not_read(self):
    with (self.org / 'benchmarks').open('wb') as file:
      file.truncate(tree.MAX_FILE + (1 << 20))
    self.assert_found('file size', 'got 51 MiB')

  def test_a_huge_description_is_not_read(self):
    with (self.org / _SYSTEM).open('wb') as file:
      file.truncate(40 << 20)
    self.assert_found('system description', 'at most')

  def test_deep_json_and_deep_folders_end(self):
    (self.org / _SYSTEM).write_text('[' * 100_000)
    deep = self.org / '/'.join(['benchmarks'] + ['d'] * 100)
    deep.mkdir(parents=True)
    self.assert_found('system description', 'expected')
    self.assert_found('depth', 'at most')

  def test_too_many_files_end(self):
    with mock.patch.object(tree, '_MAX_ENTRIES', 5):
      self.assert_found('number of files', 'at most 5')

  def test_what_must_not_be_read_is_told_of(self):
    real = os.scandir

    def refuse(path):
      if pathlib.Path(path).name == 'systems':
        raise PermissionError(13, 'Permission denied')
      return real(path)

    with mock.patch.object(os, 'scandir', refuse):
      self.assert_found('readable', 'Permission denied')

  def test_names_cannot_steer_a_terminal(self):
    os.mkdir(os.fsencode(self.org) + b'/\x1b[2J\xff')
    for finding in self.findings():
      self.assertTrue(str(finding).isprintable())
    self.assert_found('names', 'control')

  def test_sockets_and_pipes_in_every_place_are_not_waited_for(self):
    shutil.rmtree(self.org / 'systems')
    (self.org / 'systems').mkdir()
    os.mkfifo(self.org / _SYSTEM)
    (self.org / _log(0)).unlink()
    os.mkfifo(self.org / _log(0))
    os.mkfifo(self.org / 'package_checker_params')
    server = socket.socket(socket.AF_UNIX)
    self.addCleanup(server.close)
    here = os.open(self.org, os.O_RDONLY)
    self.addCleanup(os.close, here)
    server.bind(f'/proc/self/fd/{here}/socket')
    self.assert_found('files', 'a socket')
    self.assert_found('files', 'a pipe')

  def test_parts_that_are_links_or_files_are_not_entered(self):
    shutil.rmtree(self.org / 'results')
    (self.org / 'results').symlink_to('systems')
    self.assert_found('structure', 'expected a folder')
    (self.org / 'results').unlink()
    (self.org / 'results').write_text('')
    self.assert_found('structure', 'expected results/')

  def test_nothing_is_written(self):
    before = sorted(self.root.rglob('*'))
    self.findings()
    self.assertEqual(sorted(self.root.rglob('*')), before)


if __name__ == '__main__':
  absltest.main()
