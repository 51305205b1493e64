"""The official round of logs, of their system and of whole submissions."""

import datetime
import json

from absl.testing import absltest, parameterized

from suite.results import audit
from suite.results.audit import evidence, official, runs
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit import audit_official_logs as logs


def _ms(day: str) -> float:
  noon = datetime.datetime.fromisoformat(f'{day}T12:00:00+00:00')
  return 1000 * noon.timestamp()


def _date(folder, day: str) -> None:
  """Moves the runs of a set so that the first begins on a day."""
  texts = {path: path.read_text() for path in folder.glob('result_*.txt')}
  for path, text in texts.items():
    records = [json.loads(line[len(':::MLLOG ') :]) for line in text.split('\n')
               if line]  # fmt: skip
    shift = _ms(day) - records[0]['time_ms']
    for record in records:
      record['time_ms'] += int(shift)
    lines = [f':::MLLOG {json.dumps(record)}\n' for record in records]
    path.write_text(''.join(lines))


class RoundTest(parameterized.TestCase):
  """A submission of resnet, whose keys fit several rounds."""

  def setUp(self):
    super().setUp()
    self.root = audit_logs.directory(self)
    self.org = submissions.write(self.root)
    self.folder = self.org / 'results' / 'toy' / 'resnet'

  def describe(self, system: str = 'toy', **changes):
    path = self.org / 'systems' / f'{system}.json'
    submissions.describe(path, system_name=system, **changes)

  def add(self, system: str, day: str):
    """Another system that is submitted with the first."""
    self.describe(system)
    folder = self.org / 'results' / system / 'resnet'
    submissions.write_set(folder, first=10 * (1 + len(system)))
    _date(folder, day)
    return folder

  def alone(self):
    return runs.examine_set(self.folder).ruleset

  def together(self):
    """Ruleset by set, and the findings about rulesets, of the submission."""
    found = audit.examine(self.org)
    notes = [n for n in found.notes if 'runs of' in n]
    held = [n.partition('ruleset ')[2].split()[0].strip('.,') for n in notes]
    return held, [str(f) for f in found.findings if f.rule == 'ruleset']

  def test_a_date_tells_the_round(self):
    _date(self.folder, '2023-05-01')
    self.assertEqual(self.alone(), '3.0.0')

  @parameterized.parameters(
    ({'framework': 'PyTorch NVIDIA Release 23.09'},),
    ({'other_software_stack': {'image': 'jax:23.09-py3', 'cuda': '12.2'}},),
    ({'other_software_stack': ['cuDNN 8.9.5', 'container 23.09']},),
    ({'other_software_stack': 'driver 23.09, CUDA 12.2'},),
  )
  def test_software_that_came_later_makes_it_a_later_round(self, changes):
    _date(self.folder, '2023-05-01')
    self.describe(**changes)
    self.assertEqual(self.alone(), '3.1.0')

  def test_the_name_of_a_system_may_name_its_software(self):
    _date(self.folder, '2023-05-01')
    self.folder.parent.rename(self.org / 'results' / 'h8_ngc23.09_jax')
    self.folder = self.org / 'results' / 'h8_ngc23.09_jax' / 'resnet'
    self.assertEqual(self.alone(), '3.1.0')

  def test_a_name_of_a_round_that_had_ended_gives_way_to_one_around_it(self):
    _date(self.folder, '2023-05-01')
    system = self.org / 'results' / 'h8_v2.1'
    self.folder.parent.rename(system)
    self.folder = system / 'resnet'
    found = runs.examine_set(self.folder)
    (claim,) = {each.claim.others for each in found.runs.values()}
    self.assertEqual((found.ruleset, claim), ('2.1.0', ('3.0.0',)))
    outside = self.root / 'training_results_v3.0'
    outside.mkdir()
    self.folder = self.org.rename(outside / 'org') / 'results/h8_v2.1/resnet'
    self.assertEqual(self.alone(), '3.0.0')

  @parameterized.parameters('CUDA 12.4, NCCL 2.23.04', '1.23.09', '23.13', '',
                            'driver 535.23.09', 'jax 0.4', '230.09', '23.091',
                            'image 29.09')  # fmt: skip
  def test_other_versions_tell_nothing(self, text):
    _date(self.folder, '2023-05-01')
    self.describe(framework=text)
    self.assertEqual(self.alone(), '3.0.0')

  @parameterized.parameters(b'{', b'[]', b'\xff', b'{"framework": 7}')
  def test_a_description_that_cannot_be_read_tells_nothing(self, content):
    _date(self.folder, '2023-05-01')
    (self.org / 'systems' / 'toy.json').write_bytes(content)
    self.assertEqual(self.alone(), '3.0.0')

  def test_the_words_of_a_description_tell_rounds_that_fit_as_well_apart(self):
    found = {}
    for status in ('Available on-premise', 'onprem'):
      self.describe(status=status)
      read = [run.log for run in runs.examine_set(self.folder).runs.values()]
      for log in read:
        log.by_key.pop('run_start')  # a log without a date
      said = evidence.of_set(self.folder, read)
      found[status] = official.choose(said).ruleset
    self.assertEqual(found['Available on-premise'], '4.0.0')
    self.assertLess(official.order(found['onprem']), official.order('4.0.0'))

  def test_sets_of_a_submission_are_of_its_newest_round(self):
    _date(self.folder, '2023-05-01')
    self.add('late', '2023-09-01')
    held, findings = self.together()
    self.assertEqual(held, ['3.1.0', '3.1.0'])
    self.assertEmpty(findings)

  def test_the_round_is_told_once(self):
    _date(self.folder, '2023-05-01')
    self.add('late', '2023-09-01')
    notes = audit.examine(self.org).notes
    told = [note for note in notes if 'all of the submission' in note]
    self.assertLen([n for n in told if n.startswith('submission: ')], 1)

  def test_a_set_that_contradicts_is_named(self):
    case = next(c for c in logs.cases() if str(c) == '0.7.0_bert_closed')
    folder = self.folder.with_name('bert')
    self.folder.rename(folder)
    for path in folder.glob('result_*.txt'):
      logs.write_minimal(path, case)
    _date(folder, '2020-06-01')
    for system in ('a', 'bb', 'ccc'):
      self.add(system, '2023-09-01')
    held, findings = self.together()
    self.assertEqual({*held}, {'3.1.0'})
    (finding,) = findings
    self.assertIn('results/toy/bert', finding)
    self.assertIn('fits 0.7.0', finding)

  def test_a_ruleset_that_is_told_holds(self):
    _date(self.folder, '2023-05-01')
    found = audit.examine(self.org, ruleset='4.0.0')
    self.assertTrue(all('4.0.0' in note for note in found.notes))


if __name__ == '__main__':
  absltest.main()
