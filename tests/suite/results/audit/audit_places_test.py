"""The audit of logs whose evals are placed by samples or by fractions."""

import dataclasses

from absl.testing import absltest, parameterized

from suite.hparams import Division, fixed, override
from suite.results import audit, scoring
from suite.results.audit import reached
from suite.results.convergence import Point, store
from suite.run import blocks
from tests.suite.results.audit import audit_logs


@dataclasses.dataclass(frozen=True)
class LateBySamples(audit_logs.BySamples):
  """The first eval comes after 2.5 times the distance of the others."""

  @property
  def first_eval(self) -> int:
    """Declared like a field, and derived."""
    return self.samples_between_evals * 5 // 2


@dataclasses.dataclass(frozen=True)
class UnderEpochs(audit_logs.BySamples):
  """The rules want the samples under the key of epochs."""

  place_key = blocks.EPOCHS


@dataclasses.dataclass(frozen=True)
class LateByEpochs(audit_logs.ByFractions):
  """As 3D U-Net: the first eval far away, then some epochs between two."""

  epochs_between_evals: int = fixed(2, 'Epochs.')
  first_eval: int = fixed(11, 'Epochs.')


_PLACES = {'samples_count', 'epoch_num', 'first_epoch_num', 'epoch_count'}
_QUALITIES = (5.0, 4.0, 3.5, 2.9)


class PlacesTest(audit_logs.LogTestCase):
  """Sets of a benchmark that no round has."""

  def events(self, hparams, run=0, qualities=_QUALITIES):
    self.benchmark = audit_logs.placed(hparams)
    return audit_logs.good(
      run=run, benchmark=self.benchmark, qualities=qualities
    )

  def audit(self, events):
    audit_logs.write(self.path, events)
    return audit.examine_log(self.path, lambda name: self.benchmark)

  def test_evals_by_samples_or_fractions_are_in_order(self):
    for hparams in (audit_logs.BySamples(), audit_logs.ByFractions()):
      found = self.audit(self.events(hparams))
      self.assert_nothing(found.findings)
      self.assertTrue(found.converged)

  def test_a_place_by_samples_goes_before_epochs_beside_it(self):
    events = self.events(audit_logs.BySamples())
    for event in events:
      if 'samples_count' in event.metadata and event.key[:5] == 'eval_':
        event.metadata['epoch_num'] = event.metadata['samples_count'] / 60_000
    found = self.audit(events)
    self.assert_nothing(found.findings)
    last = found.evals[-1]
    self.assertEqual((last.at, last.unit), (12_000, 'samples_count'))

  def test_a_block_of_samples_begins_where_the_one_before_ended(self):
    events = self.events(audit_logs.BySamples())
    audit_logs.find(events, 'block_start', 2).metadata['samples_count'] = 6024
    text = 'expected samples_count 6000 in block_start, got 6024'
    self.assert_found(self.audit(events).findings, 'epoch numbers', text)
    events = self.events(audit_logs.BySamples())
    audit_logs.find(events, 'block_stop').metadata['samples_count'] = 0
    text = 'expected samples_count above 0 in block_stop, got 0'
    self.assert_found(self.audit(events).findings, 'epoch numbers', text)

  def test_an_eval_stands_where_its_block_ended(self):
    events = self.events(audit_logs.BySamples())
    audit_logs.find(events, 'eval_start', 1).metadata['samples_count'] = 6001
    text = 'expected samples_count 6000 in eval_start, got 6001'
    self.assert_found(self.audit(events).findings, 'epoch numbers', text)

  @parameterized.parameters(
    (audit_logs.BySamples(), 'samples', 2),
    (audit_logs.ByFractions(), 'epochs', 2),
  )
  def test_evals_may_be_rounded_to_batches_but_not_left_out(
    self, hparams, words, missing
  ):
    def move(events, by):
      for event in events:
        for name in _PLACES & event.metadata.keys():
          event.metadata[name] *= by
      return events

    # A batch is 24 of 3000 samples.
    self.assert_nothing(self.audit(move(self.events(hparams), 1.005)).findings)
    found = self.audit(move(self.events(hparams), missing)).findings
    self.assert_found(found, 'eval cadence', f'{words}, got')

  @parameterized.parameters(
    (audit_logs.BySamples(), blocks.every_samples(3000, rows=24, most=9001)),
    (
      UnderEpochs(),
      blocks.every_samples(3000, rows=7, most=9010, key=blocks.EPOCHS),
    ),
    (
      audit_logs.ByFractions(),
      blocks.in_fractions(20, steps=2500, rows=24)[:4],
    ),
    (
      audit_logs.ByFractions(),
      blocks.in_fractions(20, steps=2519, rows=24)[:4],
    ),
    (
      LateBySamples(),
      blocks.every_samples(3000, rows=7, most=16_000, first=7500),
    ),
    (
      LateByEpochs(),
      blocks.each_epoch(18, every=2, first=11, steps=4, samples=96),
    ),
  )
  def test_blocks_as_runs_log_them_are_in_order(self, hparams, made):
    self.assertLen(made, len(_QUALITIES))
    self.assert_nothing(self.audit(self.logged(hparams, made)).findings)

  def test_samples_under_the_key_of_epochs_are_declared(self):
    made = blocks.every_samples(3000, rows=7, most=9010, key=blocks.EPOCHS)
    found = self.audit(self.logged(audit_logs.BySamples(), made)).findings
    self.assert_found(found, 'eval cadence', 'after 3000 samples, got')

  @parameterized.parameters(
    # As if none was late, and as if the others were as far apart.
    (
      LateBySamples(),
      (
        blocks.every_samples(3000, rows=24, most=9001),
        blocks.every_samples(7500, rows=24, most=25_000),
      ),
      'expected eval 1 after 7500 samples, got 3000',
    ),
    (
      LateByEpochs(),
      (
        blocks.each_epoch(8, every=2),
        blocks.each_epoch(44, every=11),
      ),
      'expected eval 1 after 11 epochs, got 2',
    ),
  )
  def test_a_first_eval_that_is_declared_late_is_late(
    self, hparams, made, text
  ):
    early, rare = (
      self.audit(self.logged(hparams, each)).findings for each in made
    )
    self.assert_found(early, 'eval cadence', text)
    self.assert_found(rare, 'eval cadence', 'expected eval 2 after')

  def logged(self, hparams, made):
    events = self.events(hparams)
    for number, block in enumerate(made):
      named = (('block_start', block.start), ('block_stop', block.stop),
               ('eval_start', block.at), ('eval_accuracy', block.at),
               ('eval_stop', block.at))  # fmt: skip
      for key, metadata in named:
        audit_logs.find(events, key, number).metadata = dict(metadata)
    return events

  def test_a_run_counts_by_samples_up_to_score_and_points(self):
    batch = override(
      audit_logs.BySamples(), {'global_batch_size': '24'}, Division.CLOSED
    )
    for run in range(5):
      qualities = (*[4.0] * (3 + run % 2), 2.9)
      events = self.events(batch, run, qualities)
      audit_logs.write(self.directory / f'result_{run}.txt', events)
    score = scoring.score(str(self.directory), get=lambda name: self.benchmark)
    self.assertIsNone(score.reason, score.findings)
    self.assertEqual(score.split.unit, 'samples_count')
    self.assertEqual(score.values[1].reached, 15_000)
    checked = audit.examine_set(self.directory, lambda name: self.benchmark)
    found = reached.of(checked.runs)
    self.assertEqual(found.unit, 'samples_count')
    values = [12_000, 15_000, 12_000, 15_000, 12_000]
    self.assertEqual(list(found.values.values()), values)
    point = Point('placed_24', 24, tuple(map(float, 2 * values)), {})
    points = store.assemble(
      'placed', [point], runs=5, dropped=1, unit='samples'
    )
    path = self.directory / 'points.json'
    store.save(path, points)
    self.assertIn('samples to converge', path.read_text())
    self.assertEqual(store.load(path, runs=5, dropped=1).unit, 'samples')
    self.assertTrue(reached.judge(checked.runs, points).passed)


if __name__ == '__main__':
  absltest.main()
