"""Records of runs and scores: what is written is read back, typed."""

import json
import pathlib

from absl.testing import absltest, parameterized

from suite.results import records
from suite.results.records import RunRecord, Score
from suite.target import Target
from tests.suite.results import sample_results


class RecordsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def run_path(self, run=0):
    return str(self.folder / f'run_{run}.json')

  def test_a_run_is_read_as_it_was_written(self):
    target = {'loss': {'at_most': 3.3}, 'box': {'at_least': 0.4}}
    (record,) = sample_results.runs_of([
      sample_results.result(3, target=target, losses=[[1, 2.5], [2, None]])
    ])  # fmt: skip
    records.write_run(self.run_path(), record)
    again = records.read_run(self.run_path())
    self.assertEqual(again, record)
    self.assertEqual(again.target, Target({'box': 0.4}, {'loss': 3.3}))
    self.assertEqual(again.losses, ((1, 2.5), (2, None)))
    self.assertIsInstance(again.evals[0], records.Eval)

  def test_a_score_is_read_as_it_was_written(self):
    results = sample_results.results(5)
    made = sample_results.score(
      results,
      convergence=sample_results.convergence(),
      bootstrap=[40.0, None],
    )
    records.write_score(str(self.folder), sample_results.score_of(made))
    again = records.read_score(self.folder)
    self.assertEqual(again, sample_results.score_of(made))
    self.assertEqual(again.bootstrap, (40.0, None))
    self.assertAlmostEqual(
      again.split.system.relative,
      again.split.system.std / again.split.system.mean,
    )

  def test_every_field_of_a_record_is_in_its_file(self):
    (record,) = sample_results.runs_of([sample_results.result(0)])
    records.write_run(self.run_path(), record)
    written = json.loads(pathlib.Path(self.run_path()).read_text())
    names = set(RunRecord.__dataclass_fields__)
    self.assertEqual(set(written), {'format', *names})

  @parameterized.parameters(
    ({'seed': '7'}, 'Expected int in .*: seed'),
    ({'seed': True}, 'Expected int in .*: seed'),
    ({'time_to_quality': 'fast'}, 'Expected float in .*: time_to_quality'),
    ({'evals': {}}, 'in .*: evals'),
    ({'losses': [[1]]}, 'in .*: losses'),
    ({'startup': {'seconds': 1.0}}, ': startup lacks parts, allowance'),
    ({'timed': {'seconds': 1.0, 'parts': {'a': '1'}}}, ': timed: parts: a'),
    ({'data': 'digits'}, 'Expected an object in .*: data'),
    ({'target': {}}, 'at least one bound in .*run_0.json: target'),
    ({'target': {'accuracy': {}}}, 'at least one bound in .*: target'),
    ({'format': 2}, 'Expected format 1 .* got 2'),
  )
  def test_a_value_of_another_type_is_refused_with_its_place(
    self, change, message
  ):
    made = sample_results.result(0) | change
    pathlib.Path(self.run_path()).write_text(json.dumps(made))
    with self.assertRaisesRegex(ValueError, message):
      records.read_run(self.run_path())

  def test_runs_come_in_order_and_must_be_of_one_kind(self):
    for run in (10, 2, 0):
      text = json.dumps(sample_results.result(run))
      pathlib.Path(self.run_path(run)).write_text(text)
    found = records.read_runs(self.folder)
    self.assertEqual([record.run for record in found], [0, 2, 10])
    other = sample_results.result(3, target={'accuracy': {'at_least': 0.5}})
    pathlib.Path(self.run_path(3)).write_text(json.dumps(other))
    with self.assertRaisesRegex(
      ValueError, 'one target in .*accuracy >= 0.5, accuracy >= 0.97'
    ):
      records.read_runs(self.folder)

  def test_how_far_a_run_was_is_its_first_unit_or_its_steps(self):
    at = {'samples_count': 4096, 'epoch_num': 0.5}
    self.assertEqual(records.Eval(at, 8, 1.0, {}).place, 4096)
    self.assertEqual(records.Eval({}, 8, 1.0, {}).place, 8)

  def test_a_score_without_later_fields_can_be_read(self):
    made = sample_results.score(sample_results.results(3))
    for name in ('split', 'bootstrap', 'convergence', 'factor', 'window'):
      del made[name]
    found = records.typed(Score, made, 'it')
    self.assertEqual((found.factor, found.split), (1.0, None))


if __name__ == '__main__':
  absltest.main()
