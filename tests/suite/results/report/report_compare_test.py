"""The report of several sets: side by side, over time, and never mixed."""

import dataclasses
import json
import pathlib
import re
import tempfile

from absl.testing import absltest, parameterized

from launch import report
from suite.results.report import compare, page
from suite.results.report.compare import Set
from tests.launch import processes
from tests.suite.results import sample_results
from tests.suite.results.report.report_test import Document, classed, drawings


def made(
  name: str,
  pace: float = 1.0,
  *,
  started: str = '2026-11-23T15:00:00+00:00',
  system=(),
  **changes,
) -> Set:
  """A set whose runs take `pace` times as long as the usual ones."""
  results = sample_results.results(5)
  for run, result in enumerate(results):
    epochs = len(result['evals'])
    fresh = sample_results.result(run, epochs=epochs, pace=4.4 * pace)
    result |= fresh | {'started': started} | changes
    result['system'] = result['system'] | dict(system)
  return Set(name, results, sample_results.score(results))


def several() -> list[Set]:
  """Two sets of one system, and a faster system."""
  return [
    made('before'),
    made('after', 0.9, started='2026-12-01T15:00:00+00:00'),
    made('gpu', 0.1, system={'accelerator': 'Fast', 'devices': 8}),
  ]


def build(sets) -> page.Report:
  """The page of sets whose results and scores are as JSON holds them."""
  return compare.build([
    dataclasses.replace(
      each,
      results=sample_results.runs_of(each.results),
      score=sample_results.score_of(each.score),
    )
    for each in sets
  ])  # fmt: skip


class SideBySideTest(parameterized.TestCase):
  def test_the_fastest_stands_first_with_its_letter(self):
    (table,) = re.findall(
      r'aria-label="Table of results".*?</table>',
      build(several()).html,
      re.S,
    )
    rows = re.findall(r'<th scope="row">(.*?)</th>', table)
    self.assertEqual(rows, ['A gpu', 'B after', 'C before'])

  def test_every_set_has_a_row_a_diamond_and_its_runs(self):
    found = drawings(build(several()).html)['g0-times']
    self.assertLen(classed(found, 'row-name'), 3)
    self.assertLen(classed(found, 'marker'), 3)
    self.assertLen(classed(found, 'dot'), 15)
    self.assertLen(classed(found, 'span'), 3)

  def test_times_begin_at_zero_so_that_lengths_can_be_compared(self):
    found = drawings(build(several()).html)['g0-times']
    ticks = [e.text for e in classed(found, 'tick')]
    self.assertEqual(ticks[0], '0')
    fast, _, slow = (
      float(re.search(r'translate\(([\d.]+)', e.get('transform'))[1])
      for e in classed(found, 'marker')
    )
    (axis, *_) = classed(found, 'axis')
    start = float(axis.get('x1'))
    # Seconds go as the pace, but for 0.4 that every run takes besides.
    self.assertAlmostEqual((fast - start) / (slow - start), 0.109, places=2)

  def test_curves_are_of_the_median_run_of_each_set(self):
    found = drawings(build(several()).html)['g0-clock-0']
    self.assertLen(classed(found, 'curve'), 3)
    names = sorted(e.text for e in classed(found, 'run-name'))
    self.assertEqual(names, ['A', 'B', 'C'])

  def test_benchmarks_sizes_and_targets_are_never_on_one_axis(self):
    sets = [
      made('one'),
      made('two', size='reference'),
      made('three', target={'accuracy': {'at_least': 0.9}}),
      made('four', division='open'),
      made('five', benchmark='ssd'),
    ]
    found = drawings(build(sets).html)
    for group in range(5):
      self.assertLen(classed(found[f'g{group}-times'], 'marker'), 1)

  def test_a_set_without_a_score_comes_last_and_says_why(self):
    sets = several()
    runs = [sample_results.failed(run) for run in range(5)]
    score = sample_results.score(runs, reason='No score: 5 of 5 failed.')
    sets.insert(0, Set('failed', runs, score))
    text = Document(build(sets).html).text
    self.assertIn('D failed: No score: 5 of 5 failed.', text)
    self.assertIn('Without a curve here: D failed.', text)

  def test_a_band_is_drawn_only_where_all_have_one_batch_size(self):
    sets = several()
    for each in sets:
      each.score['convergence'] = sample_results.convergence()
    found = drawings(build(sets).html)['g0-progress-0']
    self.assertLen(classed(found, 'interval'), 1)
    for result in sets[0].results:
      result['hyperparameters'] = sample_results.settings(global_batch_size=64)
    found = drawings(build(sets).html)['g0-progress-0']
    self.assertEmpty(classed(found, 'interval'))

  def test_nothing_to_compare_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'at least one set'):
      build([])

  def test_more_sets_than_letters_can_be_told_apart(self):
    page = build([made(f's{i}', 1 + i / 100) for i in range(30)])
    found = drawings(page.html)['g0-times']
    self.assertLen({e.text for e in classed(found, 'row-name')}, 30)
    ids = Document(page.html).ids
    self.assertLen(set(ids), len(ids))


class HistoryTest(absltest.TestCase):
  def history(self, *sets) -> list:
    (table,) = re.findall(
      r'aria-label="Table of the history".*?</table>',
      build(sets).html,
      re.S,
    )
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', table, re.S)
    return [Document(row).text for row in rows]

  def test_sets_of_one_system_stand_in_the_order_of_their_start(self):
    late = made('late', 0.5, started='2026-12-05T10:00:00+00:00')
    early, later = self.history(late, made('early'))
    self.assertIn('early', early)
    self.assertIn('the first', early)
    self.assertIn('late', later)
    self.assertRegex(later, r'-49\.\d %')

  def test_what_changed_is_named(self):
    after = made(
      'after',
      started='2026-12-05T10:00:00+00:00',
      hyperparameters=sample_results.settings(warmup_epochs=2),
    )
    for result in after.results:
      result['versions'] = result['versions'] | {'jax': '0.11.0'}
      result['system'] = result['system'] | {'xla_flags': '--fast'}
    _, later = self.history(made('before'), after)
    for words in (
      'jax 0.10.2 \u2192 0.11.0',
      'xla flags \u2013 \u2192 --fast',
      'warmup_epochs 1 \u2192 2',
      'within the intervals',
    ):
      self.assertIn(words, later)

  def test_without_a_change_that_was_recorded_it_says_so(self):
    after = made('after', started='2026-12-05T10:00:00+00:00')
    _, later = self.history(made('before'), after)
    self.assertIn('nothing that was recorded', later)

  def test_two_systems_have_no_history(self):
    page = build([made('a'), made('b', system={'cores': 64})])
    self.assertNotIn('Over time', page.html)


class SafetyTest(absltest.TestCase):
  def test_markup_in_names_and_versions_is_shown_and_not_obeyed(self):
    nasty = '</svg><script>alert(1)</script><img src=x>'
    sets = [
      made(nasty),
      made(nasty + '2', started=nasty, versions={nasty: nasty}),
    ]
    found = Document(build(sets).html)
    self.assertNotIn('script', found.tags)
    self.assertNotIn('img', found.tags)
    self.assertEmpty(found.fetched)
    self.assertIn(nasty, found.text)


class ProgramTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    temporary = tempfile.TemporaryDirectory()
    self.addCleanup(temporary.cleanup)
    self.root = pathlib.Path(temporary.name)
    for each in several():
      folder = self.root / each.name
      folder.mkdir()
      for result in each.results:
        path = folder / f'run_{result["run"]}.json'
        path.write_text(json.dumps(result))
      (folder / 'score.json').write_text(json.dumps(each.score))

  def test_it_writes_page_figures_and_numbers(self):
    output = self.root / 'both'
    done = processes.run(
      'launch.report',
      f'--output={output}',
      f'--set={self.root / "before"}',
      f'--set=quick={self.root / "gpu"}',
    )
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertEqual(done.stdout, f'{output}/report.html\n')
    self.assertIn('A quick', (output / 'report.html').read_text())
    names = {path.name for path in (output / 'report').iterdir()}
    self.assertContainsSubset(
      {'sets.csv', 'runs.csv', 'numbers.json', 'resnet-tiny-times.svg'}, names
    )

  def test_a_comparison_does_not_overwrite_the_report_of_a_set(self):
    with self.assertRaisesRegex(ValueError, 'directory of its own'):
      report.write_several(self.root / 'gpu', [str(self.root / 'before')])

  def test_one_name_for_two_sets_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'got gpu twice'):
      report.write_several(
        self.root / 'x', [str(self.root / 'gpu'), f'gpu={self.root}/before']
      )

  def test_a_folder_that_is_none_is_refused_and_nothing_is_made(self):
    with self.assertRaisesRegex(ValueError, 'Expected a folder of runs'):
      report.write_several(self.root / 'x', [str(self.root / 'nowhere')])
    self.assertFalse((self.root / 'x').exists())


if __name__ == '__main__':
  absltest.main()
