"""Tests of a report beside its runs, and of figures and numbers as files."""

import csv
import io
import json
import pathlib
import tempfile
import xml.etree.ElementTree

from absl.testing import absltest, parameterized

from suite.log_keys import MADE
from suite.results import published
from suite.results.report import export, page
from tests.suite.results import sample_results
from tests.suite.results.report.report_test import Document, classed, drawings

_SVG = '{http://www.w3.org/2000/svg}'


def build(runs: int = 5, **changes) -> page.Report:
  results = sample_results.results(runs)
  return sample_results.build(results, **changes)


class VariationTest(absltest.TestCase):
  def test_the_spread_is_told_apart_into_system_and_method(self):
    text = Document(build().html).text
    start = text.index('How much the runs differ')
    section = text[start : text.index('Where the time went')]
    self.assertRegex(section, r'Time per epoch the system [\d.]+ s [\d.]+ %')
    self.assertRegex(section, r'Epochs to target the method 9.40 12.1 % 8 11')
    self.assertIn('90 % of the spread', section)

  def test_an_interval_without_an_end_says_so(self):
    text = Document(build(bootstrap=[40.0, None]).html).text
    self.assertIn('is 40.0 s to no score', text)

  def test_a_score_of_an_older_version_can_still_be_shown(self):
    results = sample_results.results(5)
    score = sample_results.score(results)
    for name in ('split', 'bootstrap', 'convergence', 'factor', 'window'):
      del score[name]
    text = Document(sample_results.render(results, score)).text
    self.assertNotIn('Time per epoch', text)
    self.assertIn('Time to quality both together', text)

  def test_it_says_what_runs_started_from(self):
    self.assertIn('each from a different random start', build().html)
    results = sample_results.results(5)
    for result in results:
      result['data'] |= {'start_weights': 'bert_start', 'start_sha256': 'ab12'}
    text = Document(sample_results.build(results).html).text
    self.assertIn('5 times, each from the weights bert_start and', text)
    self.assertNotIn('random start', text)
    self.assertIn('ab12', text)

  def test_normalisation_says_what_was_measured(self):
    text = Document(build(factor=1.05, unnormalised_seconds=40.0).html).text
    self.assertIn('Multiplied by 1.0500', text)
    self.assertIn('Measured: 40.0 s', text)

  def test_runs_outside_the_median_window_are_marked(self):
    results = sample_results.results(7)
    score = sample_results.score(results, window=[1, 2, 3, 4, 5])
    for value in score['values']:
      value['dropped'] = 'window' if value['run'] in (0, 6) else None
    page_text = sample_results.render(results, score)
    text = Document(page_text).text
    self.assertIn('the 5 with the median score count: 1, 2, 3, 4, 5', text)
    cells = page_text.count('quiet">left out: not in the median window<')
    self.assertEqual(cells, 2)


class BandTest(absltest.TestCase):
  def test_the_reference_is_a_band_of_two_deviations_by_epochs_only(self):
    report = build(convergence=sample_results.convergence(10.0, 1.0))
    found = drawings(report.html)
    self.assertEmpty(classed(found['clock-0'], 'interval'))
    drawing = found['progress-0']
    (band,), (middle,) = (classed(drawing, n) for n in ('interval', 'mean'))
    ticks = {e.text: float(e.get('x')) for e in classed(drawing, 'tick')}
    epoch = (ticks['10'] - ticks['0']) / 10
    self.assertAlmostEqual(float(middle.get('x1')), ticks['10'], delta=0.1)
    self.assertAlmostEqual(float(band.get('width')), 4 * epoch, delta=0.1)

  def test_a_slow_reference_does_not_leave_the_figure(self):
    report = build(convergence=sample_results.convergence(40.0, 5.0))
    (band,) = classed(drawings(report.html)['progress-0'], 'interval')
    self.assertLess(float(band.get('x')) + float(band.get('width')), 480)

  def test_without_a_reference_there_is_none(self):
    text = build().html
    self.assertEmpty(classed(drawings(text)['progress-0'], 'interval'))
    self.assertNotIn('runs of the reference', text)


class PublishedTest(parameterized.TestCase):
  def context(self, **changes):
    results = [sample_results.result(0, **changes)]
    return published.near(*sample_results.runs_of(results))

  def test_a_tiny_result_stands_beside_no_published_number(self):
    self.assertEmpty(self.context().entries)
    text = Document(build().html).text
    start = text.index('Published results')
    section = text[start : text.index('System', start)]
    self.assertIn('say nothing about this one', section)
    self.assertNotIn('Minutes', section)

  def test_a_full_result_stands_beside_systems_of_its_size(self):
    system = {'accelerator': 'Fast', 'devices': 8}
    found = self.context(size='reference', system=system)
    self.assertLen(found.entries, 8)
    self.assertEqual({entry.accelerators for entry in found.entries}, {8})
    minutes = [entry.minutes for entry in found.entries]
    self.assertEqual(minutes, sorted(minutes))

  def test_its_page_says_where_they_come_from_and_that_they_do_not_compare(
    self,
  ):
    results = sample_results.results(3)
    for result in results:
      result['size'] = 'reference'
    text = Document(sample_results.render(results)).text
    self.assertIn('may not be called comparable', text)
    self.assertIn('Computed from the result logs that MLCommons', text)

  def test_a_benchmark_that_nobody_published_has_no_such_section(self):
    self.assertIsNone(self.context(benchmark='mine'))
    results = [sample_results.result(0, benchmark='mine')]
    text = sample_results.render(results)
    self.assertNotIn('Published results', text)

  def test_facts_that_were_read_in_the_logs_are_there(self):
    found = self.context(size='reference', system={'devices': 4096})
    self.assertIn(
      published.Entry('v0.7', 'Google', 'tpu-v3-8192-JAX', 4096, 0.472),
      found.entries,
    )

  def test_a_failed_run_counts_as_the_slowest(self):
    # mlcommons/training_results_v0.7, Google, tpu-v4-512-TF: one run of ten
    # failed; without it the mean would be 1.243.
    found = self.context(
      benchmark='gnmt', size='reference', system={'devices': 256}
    )
    (entry,) = (e for e in found.entries if e.system == 'tpu-v4-512-TF')
    self.assertEqual(entry.minutes, 1.29)


class ExportTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    temporary = tempfile.TemporaryDirectory()
    self.addCleanup(temporary.cleanup)
    self.folder = pathlib.Path(temporary.name, 'report')

  def write(self, **changes):
    report = build(**changes)
    export.write(self.folder, report.figures, report.tables)
    return report

  def rows(self, name):
    text = (self.folder / f'{name}.csv').read_text(encoding='utf-8')
    return list(csv.DictReader(io.StringIO(text)))

  def test_every_figure_is_a_picture_of_its_own(self):
    report = self.write()
    names = {'times', 'loss', 'timed', 'startup', 'clock-accuracy'}
    self.assertContainsSubset(names, report.figures)
    for name in report.figures:
      text = (self.folder / f'{name}.svg').read_text(encoding='utf-8')
      drawing = xml.etree.ElementTree.fromstring(text)
      self.assertEqual(drawing.tag, f'{_SVG}svg')
      # Not every program that shows SVG knows these.
      self.assertNotIn('var(', text)
      self.assertNotIn('color-mix', text)
      self.assertIn('fill: #', drawing.find(f'{_SVG}style').text)

  def test_every_number_of_the_table_of_runs_is_in_the_files(self):
    self.write()
    results = sample_results.results(5)
    for row, result in zip(self.rows('runs'), results, strict=True):
      self.assertEqual(float(row['seconds']), result['time_to_quality'])
      self.assertEqual(int(row['seed']), result['seed'])
      quality = result['evals'][-1]['quality']['accuracy']
      self.assertEqual(float(row['accuracy']), quality)
    self.assertLen(
      self.rows('evals'), sum(len(result['evals']) for result in results)
    )
    seconds = sum(float(r['seconds']) for r in self.rows('time')
                  if r['phase'] == 'timed')  # fmt: skip
    total = sum(result['timed']['seconds'] for result in results)
    self.assertAlmostEqual(seconds, total, places=2)

  def test_what_a_run_made_stands_beside_the_eval_that_followed(self):
    results = [sample_results.result(0, epochs=2)]
    results[0]['evals'][1]['statistics'] = {MADE + 'game_length': 17.25}
    report = sample_results.build(results)
    export.write(self.folder, report.figures, report.tables)
    told = [row['game_length'] for row in self.rows('evals')]
    self.assertEqual(told, ['', '17.25'])

  def test_json_and_csv_say_the_same(self):
    self.write(convergence=sample_results.convergence())
    numbers = json.loads((self.folder / 'numbers.json').read_text())
    (row,), (score,) = self.rows('score'), numbers['score']
    self.assertEqual(float(row['score_seconds']), score['score_seconds'])
    self.assertEqual(float(row['reference_mean']), 10.0)
    self.assertEqual(list(numbers['runs'][0]), list(self.rows('runs')[0]))

  def test_a_number_that_json_has_not_is_null(self):
    results = sample_results.results(3)
    results[0]['losses'] = [[0, 2.0], [1, None]]
    report = sample_results.build(results)
    export.write(self.folder, report.figures, report.tables)
    numbers = json.loads((self.folder / 'numbers.json').read_text())
    self.assertIsNone(numbers['losses'][1]['loss'])

  def test_a_text_is_no_formula(self):
    text = export.table([{'name': '=1+1', 'value': -1.5}])
    self.assertEqual(text, "name,value\n'=1+1,-1.5\n")
    text = export.table([{'@name': '\n=1+1', '-x': '\r=1+1'}])
    (row,) = csv.DictReader(io.StringIO(text, newline=''))
    self.assertEqual(row, {"'@name": "'\n=1+1", "'-x": "'\n=1+1"})

  def test_an_earlier_report_is_replaced_whole(self):
    self.write()
    (self.folder / 'old.svg').write_text('old')
    self.write()
    self.assertFalse((self.folder / 'old.svg').exists())
    self.assertEqual([p.name for p in self.folder.parent.iterdir()], ['report'])

  def test_what_is_no_report_is_left_alone(self):
    self.folder.mkdir()
    mine = self.folder / 'mine.txt'
    mine.write_text('mine')
    with self.assertRaisesRegex(ValueError, 'got other files'):
      self.write()
    self.assertEqual(mine.read_text(), 'mine')


if __name__ == '__main__':
  absltest.main()
