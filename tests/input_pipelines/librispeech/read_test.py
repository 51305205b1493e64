"""Tests of batches of speech: features, order, hosts, resuming, faults."""

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.audio import log_mel, resample
from input_pipelines.librispeech import order, read
from input_pipelines.reading import dataset
from tests import benchmark_runs
from tests.input_pipelines.librispeech import fake_speech

FRONT = log_mel.FrontEnd(bands=8)
SHAPES = (order.Shape(30, 8), order.Shape(51, 8))


def setUpModule():
  global DIRECTORY
  DIRECTORY = benchmark_runs.small('rnnt').directory


def _plan():
  return order.Plan(
    *read.lengths(DIRECTORY, read.TRAIN).T,
    SHAPES,
    batch_size=8,
    most_samples=6900,
    bucket_count=2,
    speeds=(0.85, 1.15),
    by_heard=True,
    front_end=FRONT,
  )


def _stream(count, **how):
  split = dataset.Split(DIRECTORY, read.TRAIN)
  how = {'batch_size': 8, 'seed': 3, 'threads': 0, **how}
  batches = read.train_batches(split, _plan(), FRONT, **how)
  return [next(batches) for _ in range(count)]


def _evaluated(**how):
  split = dataset.Split(DIRECTORY, read.EVAL)
  lengths = read.lengths(DIRECTORY, read.EVAL)
  how = {'batch_size': 8, 'threads': 0, **how}
  return list(read.eval_batches(split, lengths, (30, 48), FRONT, **how))


class TrainTest(parameterized.TestCase):
  def same(self, found, expected):
    for ours, theirs in zip(found, expected, strict=True):
      self.assertEqual({*ours}, {*theirs})
      for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, name)

  def test_a_row_is_an_utterance_at_its_speed(self):
    batches, plan = _stream(4), _plan()
    split = dataset.Split(DIRECTORY, read.TRAIN)
    for step, batch in enumerate(batches):
      group = plan.group(3, step)
      self.assertEqual(batch['speech'].shape, (8, group.shape.frames, 8))
      self.assertEqual(batch['speech'].dtype, np.float32)
      np.testing.assert_array_equal(batch['weight'], np.ones(8))
      for row, (member, speed) in enumerate(
        zip(group.members.tolist(), group.speeds, strict=True)
      ):
        each = read.utterance(split[member])
        sound = resample.resample(each.sound, speed)
        clean = FRONT.features(sound, None)
        frames = batch['frames'][row]
        self.assertEqual(frames, len(clean))
        # But for the dither, which is 80 dB below.
        np.testing.assert_allclose(
          batch['speech'][row, :frames], clean, atol=0.02
        )
        self.assertFalse(batch['speech'][row, frames:].any())
        count = batch['count'][row]
        self.assertEqual(
          batch['symbols'][row, :count].tolist(), each.tokens.tolist()
        )
        self.assertFalse(batch['symbols'][row, count:].any())

  def test_a_stream_resumes_in_the_middle_with_any_threads(self):
    whole = _stream(12)  # more than an epoch
    self.same(_stream(4, first_step=8, threads=2), whole[8:])

  def test_hosts_side_by_side_read_what_one_host_reads(self):
    parts = [_stream(4, host=host, hosts=2) for host in range(2)]
    joined = [
      {name: np.concatenate([each[name] for each in pair]) for name in pair[0]}
      for pair in zip(*parts, strict=True)
    ]
    self.same(joined, _stream(4))

  def test_another_seed_has_another_order_and_other_noise(self):
    one, other = _stream(1), _stream(1, seed=4)
    self.assertFalse(np.array_equal(one[0]['count'], other[0]['count']))


class EvalTest(parameterized.TestCase):
  def test_each_utterance_comes_once_the_longest_first(self):
    batches = _evaluated()
    numbers = np.concatenate(
      [b['id'][b['weight'] > 0] for b in batches]
    ).tolist()
    self.assertCountEqual(numbers, range(fake_speech.COUNTS['dev-clean']))
    frames = [b['frames'][b['weight'] > 0].max() for b in batches]
    self.assertEqual(frames, sorted(frames, reverse=True))
    shapes = [b['speech'].shape[1] for b in batches]
    self.assertEqual(shapes, [30 if each <= 30 else 48 for each in frames])
    self.assertFalse(batches[-1]['speech'][batches[-1]['weight'] == 0].any())

  def test_an_eval_is_the_same_each_time(self):
    for one, other in zip(_evaluated(), _evaluated(threads=2), strict=True):
      np.testing.assert_array_equal(one['speech'], other['speech'])

  def test_speech_is_as_it_was_said(self):
    batch = _evaluated()[0]
    sound, _ = fake_speech.utterance('dev-clean', int(batch['id'][0]))
    frames = batch['frames'][0]
    clean = FRONT.features(sound, None)
    np.testing.assert_allclose(batch['speech'][0, :frames], clean, atol=0.03)

  def test_an_utterance_that_no_shape_holds_is_refused(self):
    split = dataset.Split(DIRECTORY, read.EVAL)
    lengths = read.lengths(DIRECTORY, read.EVAL)
    with self.assertRaisesRegex(ValueError, '30 frames or fewer'):
      list(read.eval_batches(split, lengths, (30,), FRONT, batch_size=8))


if __name__ == '__main__':
  absltest.main()
