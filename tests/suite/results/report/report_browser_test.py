"""The report in a real browser: looked at in both themes, wide and narrow.

Skipped without Chromium, except where CI is set: there it fails. With
REPORT_SHOTS=DIR the screenshots are kept in that folder, for people to look at.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from absl.testing import absltest, parameterized
import numpy as np
import PIL.Image

from suite.results.report import export
from tests.suite.results import sample_results
from tests.suite.results.report import report_compare_test

_BROWSER = shutil.which('chromium')
_WIDTHS = (320, 390, 768, 830, 1280)
_LOOKS = tuple((w, dark) for w in (390, 1280) for dark in (False, True))
_FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'),
  *('--disable-background-networking', '--disable-component-update'),
  *('--disable-sync', '--hide-scrollbars', '--force-device-scale-factor=1'),
  '--disable-dev-shm-usage',
  '--host-resolver-rules=MAP * ~NOTFOUND',  # nothing may come from outside
)

# Shows every page in a frame of every width and writes down what came of it.
_RULER = """<!doctype html><title>ruler</title><body><pre id="measured"></pre>
%s<script>
addEventListener('load', () => {
  const box = e => {
    const r = e.getBoundingClientRect();
    return [r.x, r.y, r.width, r.height];
  };
  const measured = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const inside = frame.contentDocument, root = inside.documentElement;
    const seen = [...inside.querySelectorAll('svg[id]')].filter(
      e => e.getClientRects().length);
    measured[frame.name] = {
      content: root.scrollWidth,
      window: root.clientWidth,
      height: root.scrollHeight,
      score: box(inside.querySelector('.score') ?? root),
      figures: Object.fromEntries(seen.map(e => [e.id, box(e)])),
      letters: Math.min(...seen.map(
        e => 12.5 * box(e)[2] / e.viewBox.baseVal.width)),
      scrolling: ['.scroll', '.drawing'].map(
        each => [...inside.querySelectorAll(each)].filter(
          e => e.scrollWidth > e.clientWidth).length),
    };
  }
  document.getElementById('measured').textContent = JSON.stringify(measured);
});
</script>"""


@dataclasses.dataclass(frozen=True)
class Look:
  """The page as it was drawn: pixels uint8 [H, W, 3], and where figures are."""

  pixels: np.ndarray
  figures: Mapping[str, Sequence[float]]

  def figure(self, name: str) -> np.ndarray:
    """The pixels of one figure, [h, w, 3]."""
    x, y, width, height = (round(value) for value in self.figures[name])
    return self.pixels[y : y + height, x : x + width]


def setUpModule():
  if _BROWSER:
    return
  if os.environ.get('CI'):
    raise AssertionError('CI must look at the report; there is no chromium.')
  raise unittest.SkipTest('There is no chromium to look at the report with.')


class BrowserTest(parameterized.TestCase):
  def test_no_page_is_wider_than_its_window(self):
    for name, found in _measured().items():
      if not name.startswith('broken'):
        self.assertEqual(found['content'], found['window'], name)
        self.assertEqual(found['window'], int(name.split()[1]))

  def test_a_page_that_is_too_wide_would_be_noticed(self):
    found = _measured()['broken 390']
    self.assertGreater(found['content'], found['window'])

  def test_what_is_wide_scrolls_inside_its_own_box_on_a_phone(self):
    tables, figures = _measured()['usual 390']['scrolling']
    self.assertGreaterEqual(tables, 3)
    self.assertEqual(figures, 4)  # the other two are drawn for half a page
    self.assertEqual(_measured()['usual 1280']['scrolling'][1], 0)

  @parameterized.parameters(*_WIDTHS)
  def test_letters_in_figures_can_be_read(self, width):
    self.assertGreater(_measured()[f'usual {width}']['letters'], 9.0)

  @parameterized.parameters((390, 844), (1280, 800))
  def test_the_score_is_on_the_first_screen(self, width, height):
    _, y, _, tall = _measured()[f'usual {width}']['score']
    self.assertGreater(tall, 50)
    self.assertLess(y + tall, height)

  @parameterized.parameters(*_LOOKS)
  def test_every_figure_is_drawn(self, width, dark):
    look = _look(width, dark)
    self.assertLen(look.figures, 6)
    for name in look.figures:
      pixels = look.figure(name)
      painted = (pixels != _colours(dark, 'page')[0]).any(-1).mean()
      self.assertBetween(painted, 0.01, 0.9, name)
      shades = np.unique(pixels.astype(int) @ (1 << 16, 1 << 8, 1))
      self.assertGreater(len(shades), 20, name)

  @parameterized.parameters(*_LOOKS)
  def test_every_figure_of_a_comparison_is_drawn(self, width, dark):
    look = _look(width, dark, 'compare')
    self.assertLen(look.figures, 5)
    for name in look.figures:
      pixels = look.figure(name)
      painted = (pixels != _colours(dark, 'page')[0]).any(-1).mean()
      self.assertBetween(painted, 0.01, 0.9, name)
    if width < 760:
      return  # the marks are to the right of what is shown at first
    pixels = look.figure('g0-times')
    for colour in _colours(dark, 'run')[:3]:
      self.assertGreater(_near(pixels, colour).sum(), 20)

  @parameterized.parameters(*_LOOKS)
  def test_the_reference_is_a_shade_behind_the_curves(self, width, dark):
    pixels = _look(width, dark).figure('progress-0')
    flat = pixels.reshape(-1, 3).astype(int) @ (1 << 16, 1 << 8, 1)
    shades, counts = np.unique(flat, return_counts=True)
    second = shades[np.argsort(counts)[-2]]  # the page is the first
    self.assertGreater(sorted(counts)[-2], 0.1 * flat.size)
    paper = int(_colours(dark, 'page')[0].astype(int) @ (1 << 16, 1 << 8, 1))
    self.assertNotEqual(second, paper)

  def test_a_figure_alone_looks_as_it_does_on_a_bright_page(self):
    results = sample_results.results(5)
    report = sample_results.build(results)
    text = export.figure(report.figures['timed'])
    height = float(re.search(r'viewBox="0 0 1000 ([\d.]+)"', text)[1])
    pixels = _shot(text, 1000, round(height), dark=True, suffix='.svg')
    np.testing.assert_array_equal(pixels[1, -1], _colours(False, 'page')[0])
    compute = _near(pixels, _colours(False, 'run')[0]).mean()
    self.assertBetween(compute, 0.2, 0.7)

  @parameterized.parameters(*_LOOKS)
  def test_every_run_has_its_colour_in_the_curves(self, width, dark):
    look = _look(width, dark)
    for figure in ('clock-0', 'progress-0', 'loss'):
      pixels = look.figure(figure)
      for colour in _colours(dark, 'run')[:5]:
        self.assertGreater(_near(pixels, colour).sum(), 20)

  @parameterized.parameters(*_LOOKS)
  def test_the_target_is_a_line_across_the_curves(self, width, dark):
    pixels = _look(width, dark).figure('clock-0')
    ink = _near(pixels, _colours(dark, 'ink')[0], 60)
    self.assertGreater(ink.mean(axis=1).max(), 0.35)

  @parameterized.parameters(*_LOOKS)
  def test_most_of_a_bar_is_the_colour_of_compute(self, width, dark):
    pixels = _look(width, dark).figure('timed')
    compute = _near(pixels, _colours(dark, 'run')[0]).mean()
    self.assertBetween(compute, 0.2, 0.7)

  @parameterized.parameters(390, 1280)
  def test_the_themes_differ_and_the_page_has_their_colour(self, width):
    for dark in (False, True):
      pixels = _look(width, dark).pixels
      np.testing.assert_array_equal(pixels[2, 2], _colours(dark, 'page')[0])
      same = (pixels == pixels[2, 2]).all(-1).mean()
      self.assertBetween(same, 0.6, 0.97)
    self.assertGreater(_look(width, False).pixels.mean(), 200)
    self.assertLess(_look(width, True).pixels.mean(), 60)


@functools.cache
def _pages() -> Mapping[str, str]:
  usual = sample_results.results(5)
  failed = [sample_results.failed(run, evals=[]) for run in range(3)]
  long = sample_results.results(2)
  for result in long:
    name = 'x' * 400
    result['benchmark'] = name
    result['system'] = {name: name}
    result['command'] = [name]
    result['target'] = {name: {'at_least': 0.97}}
    result['hyperparameters'][name] = {
      'value': name,
      'reference': 1,
      'key': name,
      'tunable': True,
      'help': name,
    }
    for item in result['evals']:
      item['quality'] = {name: item['quality']['accuracy']}
  made = {
    'usual': usual,
    'many': sample_results.results(40),
    'failed': failed,
    'long': long,
  }
  band = sample_results.convergence()
  pages = {
    name: sample_results.render(
      results, sample_results.score(results, convergence=band)
    )
    for name, results in made.items()
  }
  several = report_compare_test.several()
  pages['compare'] = report_compare_test.build(several).html
  long_names = [
    dataclasses.replace(each, name=f'{i}' + 300 * 'x')
    for i, each in enumerate(several)
  ]
  pages['compare-long'] = report_compare_test.build(long_names).html
  too_wide = '<main><div style="width: 2000px">wide</div>'
  return pages | {'broken': pages['usual'].replace('<main>', too_wide)}


@functools.cache
def _measured() -> Mapping[str, Mapping]:
  """Layout of each page at each width, by the browser: 'usual 390' -> facts."""
  frames = [
    f'<iframe name="{name} {width}" srcdoc="{html.escape(text)}" '
    f'style="width: {width}px; height: 800px; border: 0"></iframe>'
    for name, text in _pages().items()
    for width in _WIDTHS
  ]
  dom = _browse(_RULER % ''.join(frames), '--dump-dom').stdout
  found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S)[1]
  return json.loads(html.unescape(found))


@functools.cache
def _look(width: int, dark: bool, name: str = 'usual') -> Look:
  """A page, drawn whole at a width in a theme."""
  measured = _measured()[f'{name} {width}']
  pixels = _shot(_pages()[name], width, measured['height'], dark=dark)
  kept = os.environ.get('REPORT_SHOTS')
  if kept:
    theme = 'dark' if dark else 'light'
    shot = PIL.Image.fromarray(pixels)
    shot.save(pathlib.Path(kept, f'{name}_{width}_{theme}.png'))
  return Look(pixels, measured['figures'])


def _shot(
  text: str, width: int, height: int, *, dark: bool, suffix: str = '.html'
) -> np.ndarray:
  """Picture of a page or figure by the browser, uint8 [H, W, 3]."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'look.png')
    _browse(
      text,
      f'--screenshot={path}',
      f'--window-size={width},{height}',
      f'--blink-settings=preferredColorScheme={0 if dark else 1}',
      suffix=suffix,
    )
    return np.asarray(PIL.Image.open(path).convert('RGB'))


def _browse(
  text: str, *flags: str, suffix: str = '.html'
) -> subprocess.CompletedProcess:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, f'page{suffix}')
    path.write_text(text, encoding='utf-8')
    return subprocess.run(
      [
        *(_BROWSER, *_FLAGS, *flags),
        f'--user-data-dir={folder}/profile',
        path.as_uri(),
      ],
      capture_output=True,
      text=True,
      timeout=600,
      check=True,
    )


def _colours(dark: bool, name: str) -> list[np.ndarray]:
  """The colours of a theme whose names begin so, each uint8 [3]."""
  css = re.findall(r':root \{(.*?)\}', _pages()['usual'], flags=re.S)[dark]
  found = re.findall(rf'--{name}(?:-\d)?: #(\w{{6}});', css)
  return [np.frombuffer(bytes.fromhex(colour), np.uint8) for colour in found]


def _near(pixels: np.ndarray, colour: np.ndarray, within=10) -> np.ndarray:
  """Which pixels [..., 3] have about this colour, bool [...]."""
  return (np.abs(pixels.astype(int) - colour) <= within).all(-1)


if __name__ == '__main__':
  absltest.main()
