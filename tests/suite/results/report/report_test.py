"""The report: what it says, and that it says it safely and offline."""

import html.parser
import itertools
import json
import math
import pathlib
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

from absl.testing import absltest, parameterized
import numpy as np

from launch import report
from suite.log_keys import MADE
from suite.results.report import figures, svg
from suite.results.report import format as fmt
from tests.launch import processes
from tests.suite.results import sample_results

_ROOT = pathlib.Path(__file__).parents[4]


class Document(html.parser.HTMLParser):
  """The text of a page, its elements, and whatever a browser would fetch."""

  def __init__(self, text: str):
    super().__init__()
    self.tags = []
    self.fetched = []
    self.ids = []
    self.cells = []
    self._words = []
    self.feed(text)
    self.text = ' '.join(' '.join(self._words).split())

  def handle_starttag(self, tag, attributes):
    found = dict(attributes)
    self.tags.append(tag)
    self.ids += [found['id']] if 'id' in found else []
    for name in ('src', 'href', 'srcset', 'data', 'action', 'xlink:href'):
      target = found.get(name, '#')
      if not target.startswith(('#', 'data:')):
        self.fetched.append(target)

  def handle_data(self, data):
    self._words.append(data)


def document(results, **changes) -> Document:
  return Document(rendered(results, **changes))


def rendered(results, **changes) -> str:
  return sample_results.render(
    results, sample_results.score(results, **changes)
  )


def drawings(text: str) -> dict[str, xml.etree.ElementTree.Element]:
  """Every figure of a page by its id, parsed as XML."""
  found = {}
  for match in re.findall(r'<svg id=.*?</svg>', text, flags=re.S):
    drawing = xml.etree.ElementTree.fromstring(match)
    found[drawing.get('id')] = drawing
  return found


def classed(drawing, name: str):
  return [e for e in drawing.iter() if name in e.get('class', '').split()]


class FormatTest(parameterized.TestCase):
  @parameterized.parameters(
    (41.2, '41.2 s'),
    (83.4, '1 min 23.4 s'),
    (59.96, '1 min 0.0 s'),
    (3599.97, '1 h 0 min 0 s'),
    (7509.0, '2 h 5 min 9 s'),
    (0.0423, '42.3 ms'),
    (0.0, '0.0 s'),
    (-2.0, '-2.0 s'),
    (None, '\u2013'),
    (math.nan, '\u2013'),
    (math.inf, '\u2013'),
  )
  def test_durations_read_as_people_say_them(self, seconds, words):
    self.assertEqual(fmt.duration(seconds), words)

  def test_an_allowance_loses_its_zeros(self):
    self.assertEqual(fmt.limit(1800.0), '30 min')
    self.assertEqual(fmt.limit(14400.0), '4 h')
    self.assertEqual(fmt.limit(90.0), '1 min 30.0 s')

  @parameterized.parameters(
    (0.97123, '0.9712'), (25.1234, '25.12'), (None, '\u2013'), (math.nan, 'nan')
  )
  def test_quality_keeps_the_digits_that_are_compared(self, value, words):
    self.assertEqual(fmt.quality(value), words)

  def test_a_moment_names_its_month_and_zone(self):
    self.assertEqual(
      fmt.moment('2026-11-23T15:00:00+00:00'), '23 November 2026, 15:00 UTC'
    )
    self.assertEqual(fmt.moment('yesterday'), 'yesterday')


class SvgTest(parameterized.TestCase):
  def test_attributes_and_text_are_escaped(self):
    drawn = svg.tag('text', '<b>&', class_='"x"')
    self.assertEqual(drawn, '<text class="&#34;x&#34;">&lt;b&gt;&amp;</text>')

  @parameterized.parameters((0, 53.4), (0.07, 1.0), (3.1, 3.2), (0, 9e6))
  def test_ticks_are_round_and_inside_the_axis(self, low, high):
    values = svg.ticks(low, high, 5)
    self.assertBetween(len(values), 2, 11)
    self.assertGreaterEqual(values[0], low - 1e-9)
    self.assertLessEqual(values[-1], high + 1e-9)
    texts = svg.tick_texts(values)
    self.assertLen(set(texts), len(values))

  def test_labels_in_a_row_never_overlap(self):
    random = np.random.default_rng(0)
    for _ in range(50):
      wanted = sorted(random.uniform(0, 100, 8))
      centres = svg.spread(wanted, [12.0] * 8, 0.0, 100.0)
      gaps = np.diff(centres)
      self.assertGreaterEqual(min(gaps), 12.0 - 1e-9)
      self.assertGreaterEqual(centres[0], 6.0 - 1e-9)
      self.assertLessEqual(centres[-1], 94.0 + 1e-9)

  def test_a_logarithmic_scale_puts_equal_factors_at_equal_distances(self):
    scale = svg.Scale(0.1, 10.0, 0.0, 100.0, logarithmic=True)
    self.assertAlmostEqual(scale(1.0), 50.0)

  def test_thinning_keeps_the_extremes(self):
    points = [(float(i), math.sin(i / 50)) for i in range(5000)]
    points[1234] = (1234.0, 9.0)
    points[3210] = (3210.0, -9.0)
    kept = figures.thinned(points, 100)
    self.assertLessEqual(len(kept), 102)
    self.assertIn(points[1234], kept)
    self.assertIn(points[3210], kept)
    self.assertEqual((kept[0], kept[-1]), (points[0], points[-1]))


class FirstScreenTest(parameterized.TestCase):
  def test_it_says_score_target_runs_dropped_and_interval(self):
    results = sample_results.results(5)
    score = sample_results.score(
      results, score_seconds=83.42, interval=[80.0, 86.81]
    )
    text = Document(sample_results.render(results, score)).text
    first_screen = text[: text.index('Learning curves')]
    self.assertIn('1 min 23.4 s', first_screen)
    self.assertIn('accuracy at least 0.97', first_screen)
    self.assertIn('5 of 5 reached the target', first_screen)
    self.assertIn('run 2, the fastest: 39.1 s', first_screen)
    self.assertIn('run 4, the slowest: 52.8 s', first_screen)
    self.assertIn('1 min 20.0 s to 1 min 26.8 s', first_screen)
    self.assertIn('unverified', first_screen)

  def test_without_a_converged_run_there_is_no_score_and_no_number(self):
    results = [sample_results.failed(run) for run in range(5)]
    text = document(results).text
    self.assertIn('No score', text)
    self.assertIn('None of 5 runs reached the target', text)
    self.assertIn('too few runs for one', text)

  def test_a_single_run_says_how_many_are_needed(self):
    text = document([sample_results.result(0)]).text
    self.assertIn('A score needs 5 runs; so far there is 1.', text)

  def test_a_run_that_the_audit_rejects_did_not_reach_the_target(self):
    results = sample_results.results(5)
    score = sample_results.score(results)
    score['values'][3] |= {'seconds': None, 'status': 'invalid'}
    text = Document(sample_results.render(results, score)).text
    self.assertIn('4 of 5 reached the target', text)
    self.assertIn('not valid, see the audit', text)

  def test_the_reason_why_a_score_is_no_result_stands_first(self):
    reason = 'Not a result: the audit found 2 errors.'
    text = document(sample_results.results(5), reason=reason).text
    self.assertLess(text.index(reason), text.index('Learning curves'))

  def test_a_run_that_only_the_score_knows_is_mentioned(self):
    results = sample_results.results(5)
    text = Document(
      sample_results.render(results[:4], sample_results.score(results))
    ).text
    self.assertIn('Only the score knows of run 4', text)

  def test_a_report_of_nothing_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'at least one result'):
      sample_results.render([], sample_results.score([]))


class SectionsTest(parameterized.TestCase):
  def test_every_run_has_a_row_with_seed_and_log(self):
    results = sample_results.results(5)
    text = document(results).text
    for result in results:
      self.assertIn(str(result['seed']), text)
      self.assertIn(f'result_{result["run"]}.txt', text)

  def test_a_changed_hyperparameter_is_marked_with_its_reference(self):
    results = sample_results.results(3)
    text = rendered(results)
    self.assertEqual(text.count('<tr class="changed">'), 1)
    row = re.search(r'<tr class="changed">.*?</tr>', text, re.S)[0]
    words = Document(row).text
    self.assertStartsWith(words, 'base_learning_rate 0.9 0.6 changed')
    self.assertIn('1 of 7 differs', text)

  def test_an_unchanged_configuration_says_so(self):
    settings = sample_results.settings(base_learning_rate=0.6)
    results = [sample_results.result(0, hyperparameters=settings)]
    text = rendered(results)
    self.assertNotIn('class="changed"', text)
    self.assertIn('All are those of the reference.', text)

  def test_facts_on_which_runs_disagree_are_shown_for_each(self):
    results = sample_results.results(3)
    results[1]['system'] = results[1]['system'] | {'host': 'bench-02'}
    text = document(results).text
    self.assertIn('bench-01 (run 0, run 2); bench-02 (run 1)', text)
    self.assertIn('differs between runs', text)

  def test_commands_can_be_pasted_into_a_shell(self):
    text = document(sample_results.results(2)).text
    self.assertIn(
      "launch.train --benchmark=resnet --size=tiny '--output=", text
    )
    self.assertIn("'--output=results/a folder' --run=1", text)
    self.assertIn('launch.benchmark --benchmark=resnet', text)

  def test_the_parts_in_the_table_add_up_to_the_whole(self):
    for numbers in self._rows(sample_results.results(3), 'on the clock'):
      self.assertAlmostEqual(sum(numbers[:-1]), numbers[-1], delta=0.03)

  def test_seconds_that_no_part_explains_are_shown_as_such(self):
    results = sample_results.results(3)
    results[0]['timed']['parts'] = {'compute': 10.0, 'other': 1.0}
    self.assertIn('not accounted for', document(results).text)
    first = self._rows(results, 'on the clock')[0]
    self.assertAlmostEqual(sum(first[:-1]), first[-1], delta=0.03)

  def test_parts_longer_than_their_whole_are_reported(self):
    results = sample_results.results(3)
    results[2]['timed']['parts']['compute'] += 30.0
    self.assertIn('parts of run 2 are 30.0 s longer', document(results).text)

  def test_startup_beyond_the_allowance_is_said_to_be_added(self):
    result = sample_results.result(0)
    result['startup']['allowance'] = 4.0
    text = document([result]).text
    self.assertIn('7.0 s of startup were added to the time of run 0', text)

  def test_what_the_runs_made_has_a_row_for_each_of_them(self):
    results = [sample_results.result(run, epochs=3) for run in range(2)]
    for number, result in enumerate(results):
      for epoch, found in enumerate(result['evals']):
        found['statistics'] = {
          'actual_selfplay_games_per_generation': 8192 + epoch,
          MADE + 'game_length': 17.0 + number + epoch / 4,
        }
    # Of one eval nothing is known, as after a run that resumed.
    del results[1]['evals'][0]['statistics']
    text = document(results).text
    self.assertIn('What the runs made to learn from', text)
    games = 'actual selfplay games per generation'
    self.assertIn(f'{games} run 0 8,192 8,193 8,194', text)
    self.assertIn(f'{games} run 1 8,193 8,194 8,194', text)
    self.assertIn('game length run 0 17 17.2 17.5', text)
    self.assertIn('game length run 1 18.2 18.4 18.5', text)

  def test_runs_on_a_data_set_made_nothing(self):
    text = document(sample_results.results(3)).text
    self.assertNotIn('What the runs made', text)

  def test_findings_are_listed_and_announced_on_top(self):
    text = document(
      sample_results.results(3), findings=['The seed 1 was used twice.']
    ).text
    self.assertIn('The seed 1 was used twice.', text)
    self.assertIn('The audit has 1 finding about this result', text)

  def test_the_page_says_that_it_is_no_mlperf_result(self):
    text = document(sample_results.results(3)).text
    for words in (
      'This result is unverified.',
      'Podium is not affiliated with MLCommons.',
      'is a trademark of MLCommons',
      'Results of size tiny are not MLPerf results and must not be compared',
    ):
      self.assertIn(words, text)

  def _rows(self, results, name: str) -> list[list[float]]:
    """The numbers of a breakdown table, a row a run."""
    text = rendered(results)
    table = re.search(f'aria-label="Seconds {name}.*?</table>', text, re.S)[0]
    rows = re.findall(r'<tr><th scope="row">run.*?</tr>', table, re.S)
    self.assertLen(rows, len(results))
    cells = [re.findall(r'<td class="number">(.*?)</td>', row) for row in rows]
    numbers = [[re.sub('<.*?>', '', cell) for cell in row] for row in cells]
    return [
      [0.0 if cell == fmt.NOTHING else float(cell) for cell in row]
      for row in numbers
    ]


class FiguresTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 5, 10, 40)
  def test_every_run_has_a_named_curve_and_a_bar(self, runs):
    found = drawings(rendered(sample_results.results(runs)))
    names = [e.text for e in classed(found['clock-0'], 'run-name')]
    numbers = sorted(int(name.removeprefix('run ')) for name in names)
    self.assertEqual(numbers, list(range(runs)))
    for figure in ('clock-0', 'progress-0', 'loss'):
      self.assertLen(classed(found[figure], 'curve'), runs)
    for figure in ('timed', 'startup'):
      self.assertLen(classed(found[figure], 'row-name'), runs)

  def test_a_curve_ends_where_its_last_eval_was(self):
    result = sample_results.result(0)
    drawing = drawings(rendered([result]))['clock-0']
    (curve,) = classed(drawing, 'curve')
    end_x, end_y = map(float, curve.get('d').split('L')[-1].split())
    (target,) = classed(drawing, 'target')
    # The run ends at 0.9712, a little above the target of 0.97.
    self.assertLess(end_y, float(target.get('y1')))
    self.assertGreater(end_y, float(target.get('y1')) - 4)
    self.assertGreater(end_x, 0.9 * float(target.get('x2')))

  def test_a_target_from_above_is_drawn_below_the_start_of_the_curves(self):
    results = sample_results.results(3)
    for result in results:
      result['target'] = {'log_perplexity': {'at_most': 3.1}}
      for item in result['evals']:
        item['quality'] = {
          'log_perplexity': 6 - 3 * item['quality']['accuracy']
        }
    drawing = drawings(rendered(results))['clock-0']
    (target,) = classed(drawing, 'target')
    for curve in classed(drawing, 'curve'):
      start_y = float(curve.get('d')[1:].split('L')[0].split()[1])
      self.assertLess(start_y, float(target.get('y1')))

  def test_every_metric_of_the_target_has_its_figures(self):
    results = sample_results.results(3)
    for result in results:
      result['target'] = {'box': {'at_least': 0.37}, 'mask': {'at_least': 0.34}}
      for item in result['evals']:
        item['quality'] = {'box': 0.1, 'mask': 0.2}
    found = drawings(rendered(results))
    self.assertContainsSubset({'clock-0', 'clock-1'}, found)

  def test_a_run_that_missed_the_target_ends_in_a_cross(self):
    results = [*sample_results.results(4), sample_results.failed(4)]
    found = drawings(rendered(results))
    self.assertLen(classed(found['clock-0'], 'cross'), 1)
    self.assertLen(classed(found['times'], 'marker'), 4)

  def test_a_loss_that_is_not_finite_ends_its_curve(self):
    results = sample_results.results(3)
    results[1]['losses'] = [[0, 2.0], [1, 1.9], [2, None]]
    found = drawings(rendered(results))
    self.assertLen(classed(found['loss'], 'cross'), 1)
    self.assertIn('did not stay finite in run 1', document(results).text)
    self.assertNotIn('nan', found['loss'].get('d', '').lower())

  def test_a_loss_that_falls_by_orders_of_magnitude_is_logarithmic(self):
    results = sample_results.results(2)
    results[0]['losses'] = [[0, 100.0], [1, 10.0], [2, 1.0]]
    drawing = drawings(rendered(results))['loss']
    names = [element.text for element in classed(drawing, 'axis-name')]
    self.assertIn('training loss, logarithmic', names)

  def test_without_evals_there_are_no_curves_and_the_page_says_so(self):
    results = [
      sample_results.failed(run, 'interrupted by SIGINT', evals=[], losses=[])
      for run in range(3)
    ]
    text = rendered(results)
    self.assertNotIn('clock-0', drawings(text))
    self.assertIn('No run was ever evaluated', text)
    self.assertIn('interrupted by SIGINT', text)

  def test_all_times_equal_can_still_be_drawn(self):
    results = [sample_results.result(run) for run in range(3)]
    self.assertIn('times', drawings(rendered(results)))

  def test_an_interval_wider_than_the_axis_stays_inside_the_figure(self):
    results = sample_results.results(3)
    found = drawings(rendered(results, interval=[-500.0, 600.0]))
    (band,) = classed(found['times'], 'interval')
    self.assertGreaterEqual(float(band.get('x')), 0.0)
    self.assertLessEqual(float(band.get('x')) + float(band.get('width')), 1000)

  def test_figures_have_a_title_and_a_description(self):
    text = rendered(sample_results.results(3))
    found = drawings(text)
    self.assertLen(found, 6)
    for name, drawing in found.items():
      self.assertEqual(drawing.get('role'), 'img')
      self.assertEqual(
        drawing.get('aria-labelledby'), f'{name}-title {name}-desc'
      )
      self.assertNotEmpty(drawing.find('title').text)
      self.assertNotEmpty(drawing.find('desc').text)

  def test_ids_are_unique(self):
    ids = document(sample_results.results(40)).ids
    self.assertLen(set(ids), len(ids))


class SafetyTest(parameterized.TestCase):
  def test_the_page_fetches_nothing_and_has_no_script(self):
    text = rendered(sample_results.results(5))
    found = Document(text)
    self.assertEmpty(found.fetched)
    for tag in ('script', 'iframe', 'img', 'object', 'embed', 'base', 'form'):
      self.assertNotIn(tag, found.tags)
    for words in ('://', '@import', 'url(', 'javascript:'):
      self.assertNotIn(words, text)
    self.assertIn("default-src 'none'", text)

  def test_markup_in_a_string_is_shown_and_not_obeyed(self):
    nasty = '</title></svg><script>alert(1)</script>"\'><img src=x>&amp;'
    results = [_with_strings(result, nasty) for result in _some_results()]
    score = sample_results.score(results, findings=[nasty], command=[nasty])
    found = Document(sample_results.render(results, score))
    self.assertNotIn('script', found.tags)
    self.assertNotIn('img', found.tags)
    self.assertEmpty(found.fetched)
    self.assertIn(nasty, found.text)

  def test_very_long_names_can_be_shown(self):
    long = 'x' * 3000
    results = [_with_strings(result, long) for result in _some_results()]
    self.assertIn(long, rendered(results))


class ColourTest(parameterized.TestCase):
  """The colours of the runs, in both themes."""

  @parameterized.parameters(0, 1)
  def test_runs_stay_apart_for_every_kind_of_colour_vision(self, theme):
    colours = [_linear(c) for c in _theme(theme, 'run')]
    for seen in _VISIONS:
      places = [_oklab(np.array(seen) @ colour) for colour in colours]
      for one, other in itertools.combinations(places, 2):
        self.assertGreater(np.linalg.norm(one - other), 0.12)

  @parameterized.parameters(0, 1)
  def test_lines_and_text_stand_out_from_the_page(self, theme):
    (paper,) = _theme(theme, 'page')
    for colour in _theme(theme, 'run'):
      self.assertGreater(_contrast(colour, paper), 3.0)
    for name in ('ink', 'soft', 'accent', 'warn'):
      (colour,) = _theme(theme, name)
      self.assertGreater(_contrast(colour, paper), 4.5, name)
    fills, inks = _theme(theme, 'run'), _theme(theme, 'on')
    for fill, ink in zip(fills, inks, strict=True):
      self.assertGreater(_contrast(fill, ink), 4.5)


class ProgramTest(parameterized.TestCase):
  """launch.report, on folders."""

  def test_it_writes_the_page_beside_the_runs(self):
    folder = self._folder(sample_results.results(12))
    path = report.write(folder)
    self.assertEqual(path, f'{folder}/report.html')
    text = pathlib.Path(path).read_text(encoding='utf-8')
    self.assertLen(classed(drawings(text)['clock-0'], 'curve'), 12)

  def test_runs_come_in_the_order_of_their_numbers(self):
    results, _ = report.read(self._folder(sample_results.results(12)))
    self.assertEqual([result.run for result in results], list(range(12)))

  def test_the_program_prints_the_path_or_one_line_of_refusal(self):
    folder = self._folder(sample_results.results(3))
    done = _run(f'--output={folder}')
    self.assertEqual(done.stdout, f'{folder}/report.html\n')
    self.assertEqual(done.returncode, 0)
    (folder / 'score.json').unlink()
    refused = _run(f'--output={folder}')
    self.assertEqual(refused.returncode, 2)
    self.assertLen(refused.stderr.splitlines(), 1)
    self.assertIn('Expected score.json', refused.stderr)

  @parameterized.named_parameters(
    ('no_folder', 'nowhere', None, 'Expected a folder of runs'),
    ('no_runs', 'run_0.json', None, r'Expected run_<i>\.json'),
    ('no_json', 'run_0.json', '{', 'run_0.json'),
    ('no_object', 'run_0.json', '[]', 'Expected an object .* got a list'),
    ('other_format', 'run_0.json', '{"format": 2}', 'Expected format 1 .* 2'),
    ('lacking', 'run_0.json', '{"format": 1}', 'lacks benchmark, size'),
    ('score_lacking', 'score.json', '{}', 'score.json lacks benchmark, size'),
  )
  def test_a_folder_that_cannot_be_shown_is_refused(self, name, text, message):
    folder = self._folder([sample_results.result(0)])
    if text is None:
      (folder / name).unlink(missing_ok=True)
    else:
      (folder / name).write_text(text)
    if name == 'nowhere':
      folder = folder / name
    with self.assertRaisesRegex(ValueError, message):
      report.read(folder)

  def test_runs_of_two_sizes_are_refused(self):
    results = sample_results.results(2)
    results[1]['size'] = 'reference'
    with self.assertRaisesRegex(ValueError, 'one size .* reference, tiny'):
      report.read(self._folder(results))

  def _folder(self, results) -> pathlib.Path:
    folder = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, folder)
    for result in results:
      path = folder / f'run_{result["run"]}.json'
      path.write_text(json.dumps(result))
    score = sample_results.score(results)
    (folder / 'score.json').write_text(json.dumps(score))
    return folder


# How the red-, green- and blue-blind see linear RGB [3, 3], after Machado,
# Oliveira and Fernandes (2009), at full severity; and everyone else.
_VISIONS = (
  [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
  [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.303900],
  ],
)


def _theme(theme: int, name: str) -> list[str]:
  """Colours of a theme (0 light, 1 dark) whose names begin with `name`."""
  css = (_ROOT / 'suite' / 'results' / 'report' / 'theme.css').read_text()
  block = re.findall(r':root \{(.*?)\}', css, flags=re.S)[theme]
  return re.findall(rf'--{name}(?:-\d)?: (#\w{{6}});', block)


def _linear(colour: str) -> np.ndarray:
  """#rrggbb -> linear RGB [3]."""
  values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
  return np.where(
    values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
  )


def _oklab(linear: np.ndarray) -> np.ndarray:
  """Linear RGB [3] -> OKLab [3]."""
  to_cones = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
  ]
  to_lab = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
  ]
  cones = np.array(to_cones) @ np.clip(linear, 0, 1)
  return np.array(to_lab) @ np.cbrt(cones)


def _contrast(one: str, other: str) -> float:
  """The contrast ratio of WCAG, from 1 to 21."""
  weights = np.array([0.2126, 0.7152, 0.0722])
  light, dark = sorted(
    (float(_linear(colour) @ weights) for colour in (one, other)), reverse=True
  )
  return (light + 0.05) / (dark + 0.05)


def _some_results() -> list[dict]:
  return [*sample_results.results(3), sample_results.failed(3)]


def _with_strings(result: dict, text: str) -> dict:
  """The result with `text` wherever a string may come from outside."""
  result['reason'] = text
  result['started'] = text
  result['target'] = {text: {'at_least': 0.97}}
  for item in result['evals']:
    item['quality'] = {text: item['quality']['accuracy']}
    item['at'] = {text: 1}
  result['timed']['parts'][text] = 1.0
  setting = {'value': text, 'reference': 'a', 'key': text, 'tunable': True}
  result['hyperparameters'][text] = setting | {'help': text}
  for section in ('system', 'versions'):
    result[section][text] = text
  result['data'] = {'name': text, 'fingerprint': text}
  result['system']['processor'] = text
  result['command'] = [text]
  for field in ('benchmark', 'size', 'ruleset', 'division'):
    result[field] = text
  return result


def _run(*arguments: str) -> subprocess.CompletedProcess:
  return processes.run('launch.report', *arguments)


if __name__ == '__main__':
  absltest.main()
