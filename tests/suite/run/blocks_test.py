"""Tests of where evals are placed: by epochs, fractions of one, or samples."""

import os
from unittest import mock

from absl.testing import absltest, parameterized

from suite.results.audit import order, resumes
from suite.results.audit.log import read
from suite.run import blocks, loop, sharding
from suite.run.task import Facts
from suite.target import Target
from tests.suite.run import fake_task


def _at(found):
  return [next(iter(block.at.values())) for block in found]


class BlocksTest(parameterized.TestCase):
  def test_a_block_an_epoch_counts_from_what_lies_behind_the_run(self):
    first, second = blocks.each_epoch(2, steps=7, samples=100, before=17)
    self.assertEqual((first.steps, second.samples), (7, 100))
    self.assertEqual(first.start, {'first_epoch_num': 18, 'epoch_count': 1})
    self.assertEqual(second.stop, {'first_epoch_num': 19})
    self.assertEqual(_at([first, second]), [18, 19])

  def test_an_eval_may_follow_every_few_epochs(self):
    found = blocks.each_epoch(7, every=3, steps=5, samples=40)
    self.assertEqual(_at(found), [3, 6])
    self.assertEqual([(b.steps, b.samples) for b in found], [(15, 120)] * 2)

  def test_a_block_may_leave_its_steps_to_the_feed(self):
    found = blocks.each_epoch(3)
    self.assertEqual({(b.steps, b.samples) for b in found}, {(None, None)})

  def test_every_few_epochs_an_eval_follows_the_batch_with_the_last_sample(
    self,
  ):
    found = blocks.after_epochs(range(1, 8, 3), samples=100, rows=32)
    self.assertEqual([b.steps for b in found], [4, 9, 9])  # 100, 400, 700
    self.assertEqual([b.samples for b in found], [4 * 32, 9 * 32, 9 * 32])
    self.assertEqual(found[1].start, {'first_epoch_num': 2, 'epoch_count': 3})
    self.assertEqual(_at(found), [1, 4, 7])

  def test_the_first_eval_may_be_some_epochs_away(self):
    found = blocks.each_epoch(10, every=2, first=5, steps=4, samples=96)
    self.assertEqual(_at(found), [5, 7, 9])
    self.assertEqual([b.steps for b in found], [20, 8, 8])

  def test_epochs_may_be_logged_as_samples(self):
    # 3D U-Net from v3.1 on: 20 epochs of 168 volumes are 3360 samples.
    (first, _) = blocks.after_epochs(
      (20, 40), samples=168, rows=32, unit=blocks.SAMPLES
    )
    self.assertEqual(first.at, {'samples_count': 3360})

  @parameterized.parameters((96, 12288, 128), (36, 12312, 342))
  def test_an_interval_of_samples_is_rounded_up_to_a_batch(
    self, rows, place, steps
  ):
    # llama31_8b: every 12,288 sequences, or CEIL(12288 / batch) * batch.
    found = blocks.every_samples(12288, rows=rows, most=3 * place)
    self.assertEqual({b.steps for b in found}, {steps})
    self.assertEqual(_at(found), [place, 2 * place, 3 * place])
    self.assertEqual(found[0].start, {'samples_count': 0})
    self.assertEqual(found[1].start, {'samples_count': place})
    self.assertEqual(found[1].stop, {'samples_count': 2 * place})

  def test_the_first_eval_may_come_later(self):
    # llama2_70b_lora with a batch of 8: every 384, the first after 1,536.
    found = blocks.every_samples(384, rows=8, most=2000, first=1536)
    self.assertEqual(_at(found), [1536, 1920, 2304])
    self.assertEqual([b.steps for b in found], [192, 48, 48])

  def test_samples_may_stand_under_the_key_of_epochs(self):
    # BERT: epoch_num counts samples.
    found = blocks.every_samples(4000, rows=32, most=8000, key=blocks.EPOCHS)
    self.assertEqual(found[1].at, {'epoch_num': 8000})
    self.assertEqual(
      found[1].start, {'first_epoch_num': 4001, 'epoch_count': 4000}
    )

  def test_fractions_of_an_epoch_are_of_its_steps(self):
    # dlrm, a batch of 55,296: every 3,793 of 75,868 steps, to 0.9999.
    found = blocks.in_fractions(20, steps=75868, rows=55296)
    self.assertLen(found, 20)
    self.assertEqual({b.steps for b in found}, {3793})
    self.assertAlmostEqual(found[-1].at['epoch_num'], 0.9999, places=4)
    self.assertAlmostEqual(found[1].start['epoch_count'], 0.05, places=4)
    firsts = [block.start['first_epoch_num'] for block in found]
    self.assertEqual(firsts, [0, *_at(found)[:-1]])
    with self.assertRaisesRegex(ValueError, '20 parts .* got 19 steps'):
      blocks.in_fractions(20, steps=19, rows=1)

  def test_a_place_is_said_in_words(self):
    self.assertEqual(blocks.where({'epoch_num': 4}), 'epoch 4')
    self.assertEqual(blocks.where({'epoch_num': 0.05}), 'epoch 0.05')
    self.assertEqual(
      blocks.where({'samples_count': 1228800}), '1,228,800 samples'
    )


class RunTest(parameterized.TestCase):
  @parameterized.parameters(
    (blocks.every_samples(40, rows=fake_task.ROWS, most=100),
     'samples_count', [48, 96, 144]),
    (blocks.in_fractions(4, steps=10, rows=fake_task.ROWS),
     'epoch_num', [0.2, 0.4, 0.6]),
  )  # fmt: skip
  def test_the_log_of_a_run_has_the_places_that_official_logs_have(
    self, found, key, places
  ):
    path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')
    clock, log = fake_task.ready(path)
    result = loop.run(
      fake_task.FakeTask([0.1, 0.2, 0.9], blocks=found),
      Facts(),
      Target(at_least={'accuracy': 0.9}),
      fake_task.data_for(clock, sharding.make_mesh()),
      mesh=sharding.make_mesh(),
      seed=0,
      log=log,
      clock=clock,
    )
    log.close()
    self.assertEqual([e.at for e in result.evals], [{key: p} for p in places])
    self.assertEqual(result.samples, 3 * found[0].samples)
    kept = read(path)
    accuracies = kept.of('eval_accuracy')
    self.assertEqual([e.metadata[key] for e in accuracies], places)
    faults = [*order._fields(kept), *resumes.check(kept)]
    faults += order._intervals(kept, kept.timeline, cut_off=False)
    faults += order._samples(kept, kept.timeline)
    claim = mock.Mock(epochs_before=0)
    faults += order._epochs(kept, kept.timeline, claim)
    self.assertEmpty([str(fault) for fault in faults])


if __name__ == '__main__':
  absltest.main()
