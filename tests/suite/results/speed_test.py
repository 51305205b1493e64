import os

from absl.testing import absltest, parameterized

from suite import files
from suite.results import speed
from suite.results.report import speed as report
from tests.suite.results.sample_speeds import failed, point, program


def _words(now, before):
  return {change.name: change.words for change in speed.compare(now, before)}


class CompareTest(parameterized.TestCase):
  @parameterized.parameters(
    (1.0, 'same'), (1.02, 'same'), (1.05, 'slower'), (0.94, 'faster')
  )
  def test_a_difference_counts_beyond_three_percent(self, factor, words):
    now = point('resnet', program(processor=0.2 * factor))
    self.assertEqual(
      _words([now], [point()]), {'resnet tiny: train_step': words}
    )

  def test_it_counts_beyond_the_spread_of_either_measurement(self):
    now = point('resnet', program(processor=0.22, spread=0.15))
    self.assertEqual(list(_words([now], [point()]).values()), ['same'])
    self.assertEqual(list(_words([point()], [now]).values()), ['same'])

  @parameterized.parameters(('cpu', 'same'), ('gpu', 'slower'))
  def test_cpus_are_compared_by_seconds_of_all_cores(self, platform, words):
    before, now = (
      point('resnet', program(median=median), system={'platform': platform})
      for median in (0.1, 0.2)
    )
    self.assertEqual(list(_words([now], [before]).values()), [words])

  def test_what_failed_since_is_worse_and_what_is_new_is_not(self):
    before = [
      point('resnet'),
      point('ncf'),
      {**failed('bert'), 'devices': None},
    ]
    now = [failed('resnet'), point('gnmt'), point('bert')]
    changes = speed.compare(now, before)
    self.assertEqual(
      {change.name: change.words for change in changes},
      {
        'resnet tiny': 'failed',
        'gnmt tiny': 'new',
        'bert tiny': 'new',
        'ncf tiny': 'not measured',
      },
    )
    self.assertEqual([c.name for c in changes if c.is_worse], ['resnet tiny'])

  def test_another_batch_or_other_settings_do_not_compare(self):
    for more in ({'batch': 32}, {'hyperparameters': {'remat': True}}):
      self.assertEqual(
        _words([point(**more)], [point()]), {'resnet tiny': 'other settings'}
      )

  def test_points_of_other_devices_do_not_compare(self):
    self.assertEqual(
      _words([point(devices=2)], [point()]),
      {'resnet tiny': 'not measured'},
    )


class SummaryTest(parameterized.TestCase):
  def test_shapes_of_batches_count_by_one_step_of_each(self):
    found = speed.summary(
      point(
        'gnmt',
        program('train_step 64x10', mean=0.1),
        program('train_step 64x30', mean=0.3, flops=3e9, memory=2**30),
        program('predict', mean=9.0),
      )
    )
    self.assertAlmostEqual(found.samples_per_second, 320.0)
    self.assertAlmostEqual(found.rates['tokens'], 3200.0)
    self.assertAlmostEqual(found.seconds, 0.2)
    self.assertAlmostEqual(found.flops_rate, 1e10)
    self.assertAlmostEqual(found.of_measured_peak, 0.5)
    self.assertIsNone(found.of_published_peak)
    self.assertEqual(found.memory, 2**30)

  def test_a_point_without_train_steps_has_none(self):
    self.assertIsNone(speed.summary(point('minigo', program('predict'))))
    self.assertIsNone(speed.summary(failed()))

  def test_efficiency_is_that_of_a_device_against_the_first_point(self):
    points = [point(), point(devices=2), failed()]
    self.assertEqual(speed.efficiencies(points), [1.0, 0.5, None])


class FileTest(absltest.TestCase):
  def test_a_file_gives_its_points_back(self):
    path = os.path.join(self.create_tempdir(), 'speed.json')
    speed.write(path, [point(), failed('ncf')], ['python'])
    self.assertEqual(speed.read(path), [point(), failed('ncf')])
    self.assertIn('no result', files.read_json(path)['note'])

  def test_a_file_of_another_kind_is_refused(self):
    path = os.path.join(self.create_tempdir(), 'run_0.json')
    files.write_json(path, {'format': 1})
    with self.assertRaisesRegex(ValueError, 'file of launch.speed'):
      speed.read(path)


class TablesTest(absltest.TestCase):
  def test_a_single_point_is_told_with_all_its_programs(self):
    text = '\n'.join(
      report.lines([point('ncf', program(), program('predict'))])
    )
    self.assertIn('640 samples, 6,400 tokens', text)
    self.assertIn('predict', text)
    self.assertIn(speed.NO_RESULT, text)

  def test_several_points_have_a_row_each_and_failures_their_reason(self):
    text = '\n'.join(report.lines([point(), failed('ncf')]))
    self.assertIn('resnet tiny', text)
    self.assertIn('ncf tiny: out of memory', text)
    self.assertNotIn('100.0 %', text)  # others are no measure of efficiency
    self.assertIn(speed.NO_RESULT, text)

  def test_a_measurement_that_is_not_steady_is_noted(self):
    found = report.notes(point('ncf', program(steady=False)))
    self.assertRegex(found[0], 'not steady')
    found = report.notes(point('ncf', program(finite=False)))
    self.assertRegex(found[0], 'not finite')

  def test_the_page_shows_points_changes_and_history(self):
    points, before = [point(), failed('ncf')], [[point()], [point()]]
    html = report.page(
      points, before, speed.compare(points, before[-1]), ['python', '<b>']
    )
    for text in ('resnet tiny', 'out of memory', '>same<', 'History'):
      self.assertIn(text, html)
    self.assertNotIn('<b>', html)


if __name__ == '__main__':
  absltest.main()
