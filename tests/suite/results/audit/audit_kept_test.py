"""Logs as people keep them: compressed, coloured, named otherwise."""

import gzip
import os
import pathlib
import re
import tracemalloc

from absl.testing import absltest, parameterized

from launch import report
from suite import benchmark, files
from suite.results import audit, scoring
from suite.results.audit import log as log_lib
from tests.suite.results.audit import audit_logs

_COLOURS = (b'\x1b[32m', b'\x1b[0m', b'\x1b[1;38;5;12m', b'\x1b]0;title\x07',
            b'\x1b(B', b'\x1b[?25l', b'\x1b[K')  # fmt: skip


def _compressed(path):
  path.with_name(f'{path.name}.gz').write_bytes(
    gzip.compress(path.read_bytes())
  )
  path.unlink()


def _upper(path):
  path.rename(path.with_name(path.name.upper()))


def _both(path):
  _compressed(path)
  kept = path.with_name(f'{path.name}.gz')
  kept.rename(kept.with_name(kept.name.replace('result', 'Result')))


def _coloured(path):
  """A line of a terminal has codes around it and between its parts."""
  lines = []
  for number, line in enumerate(path.read_bytes().splitlines()):
    code = _COLOURS[number % len(_COLOURS)]
    lines.append(code + b'12:01 ' + line.replace(b', ', b', ' + code) + code)
  path.write_bytes(b'\r\n'.join(lines) + b'\r\n')


def _coloured_and_compressed(path):
  _coloured(path)
  _compressed(path)


_KEPT = {
  'compressed': _compressed, 'upper': _upper, 'both': _both,
  'coloured': _coloured, 'all': _coloured_and_compressed,
}  # fmt: skip


class KeptTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = audit_logs.directory(self) / 'first'
    audit_logs.write_set(self.folder, benchmark=benchmark.get('resnet'))
    self.path = self.folder / 'result_0.txt'

  def keep(self, how):
    for path in sorted(self.folder.iterdir()):
      _KEPT[how](path)

  @parameterized.parameters(*_KEPT)
  def test_a_set_is_judged_and_scored_as_it_was_written(self, how):
    whole = audit.examine_set(self.folder)
    score = scoring.score(str(self.folder))
    self.keep(how)
    kept = audit.examine_set(self.folder)
    self.assertEqual(audit.errors(kept.findings), audit.errors(whole.findings))
    told = {f.rule for f in kept.findings} - {f.rule for f in whole.findings}
    self.assertBetween(len(told), 1, 2)
    self.assertContainsSubset(told, {'names of logs', 'text'})
    again = scoring.score(str(self.folder))
    self.assertEqual(again.score_seconds, score.score_seconds)
    self.assertEqual(again.reason, score.reason)
    self.assertLen(report.read(self.folder)[0], 5)

  def test_of_a_log_that_is_kept_twice_the_usual_one_counts(self):
    copy = self.folder / 'result_0.txt.gz'
    copy.write_bytes(gzip.compress(b'another'))
    logs, named = files.logs(self.folder)
    self.assertTrue(named)
    self.assertEqual(logs[0], self.path)
    found = audit.examine_set(self.folder).findings
    self.assertRegex(str(found[0]), r'result_0\.txt\.gz: .*was not read')

  @parameterized.parameters('run0.log', 'stdout', 'result-0.txt', 'a.txt.gz')
  def test_logs_of_another_name_are_named_where_there_is_no_other(self, name):
    content = self.path.read_bytes()
    for path in self.folder.iterdir():
      path.unlink()
    if name.endswith('.gz'):
      content = gzip.compress(content)
    (self.folder / name).write_bytes(content)
    (self.folder / 'notes.md').write_text('nothing')
    text = '\n'.join(map(str, audit.examine(self.folder).findings))
    self.assertRegex(text, f'{re.escape(name)}: expected the name.*not read')
    self.assertNotIn('notes.md', text)
    with self.assertRaisesRegex(ValueError, re.escape(name)):
      scoring.score(str(self.folder))

  @parameterized.parameters('.', '..', './', '../first', '../first/.')
  def test_a_set_has_a_name_wherever_one_stands(self, place):
    inside = self.folder / 'inside'
    inside.mkdir()
    before = os.getcwd()
    self.addCleanup(os.chdir, before)
    os.chdir(inside if place == '..' else self.folder)
    (note,) = audit.examine(place).notes
    self.assertStartsWith(note, 'first: 5 runs of resnet')

  def test_codes_of_a_terminal_are_told_of_once(self):
    _coloured(self.path)
    found = audit.examine_log(self.path).findings
    (told,) = [f for f in found if f.rule == 'text']
    self.assertEqual(told.severity, audit.WARNING)


class BoundsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = audit_logs.directory(self) / 'result_0.txt.gz'

  def read(self):
    """Findings of the log, which takes little memory."""
    tracemalloc.start()
    found = log_lib.read(self.path).findings
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    self.assertLess(most, 32 << 20)
    return '\n'.join(map(str, found))

  @parameterized.parameters(b'\0', b'\n', b':::MLLOG {"')
  def test_a_bomb_is_read_up_to_the_limit_and_told_of(self, text):
    # 64 MiB of one text in some 64 KiB; its own size says nothing.
    piece = text * ((1 << 20) // len(text))
    with gzip.open(self.path, 'wb', compresslevel=9) as file:
      for _ in range(64):
        file.write(piece)
    self.assertLess(self.path.stat().st_size, 1 << 19)
    with (
      files.opened_log(self.path, 1 << 20) as stream,
      self.assertRaisesRegex(ValueError, 'at most 1048576 bytes'),
    ):
      while stream.read(1 << 16):
        pass
    self.assertNotEmpty(self.read())

  def test_a_bomb_within_another_is_not_opened(self):
    inner = gzip.compress(b'\0' * (1 << 20))
    self.path.write_bytes(gzip.compress(inner))
    self.assertIn('the file has none', self.read())

  @parameterized.parameters(0, 1, 2, 9, 11, 40, 100)
  def test_one_that_is_cut_off_is_told_of(self, length):
    events = audit_logs.good()
    audit_logs.write(self.path, events)
    whole = gzip.compress(self.path.read_bytes())
    self.path.write_bytes(whole[:length])
    self.assertRegex(
      self.read(), 'whole file of gzip|the file is empty|the file has none'
    )

  def test_bytes_that_are_no_gzip_after_all_are_told_of(self):
    whole = bytearray(gzip.compress(bytes(range(256)) * 100))
    for place in range(2, len(whole), 7):
      broken = whole[:]
      broken[place] ^= 0xFF
      self.path.write_bytes(broken)
      self.assertNotEmpty(self.read(), place)

  def test_a_pipe_is_refused(self):
    os.mkfifo(self.path)
    self.assertIn('regular file', self.read())

  def test_of_plain_logs_nothing_changes(self):
    plain = pathlib.Path(str(self.path).removesuffix('.gz'))
    audit_logs.write(plain, audit_logs.good())
    with files.opened_log(plain) as stream:
      self.assertEqual(stream.read(), plain.read_bytes())


if __name__ == '__main__':
  absltest.main()
