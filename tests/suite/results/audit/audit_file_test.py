"""Files as loggers, launchers and accidents leave them."""

import os

from absl.testing import absltest, parameterized

from suite.results import audit
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import Event, find


def _prefixed(text):
  """As srun --label and a logger with times of its own write it."""
  return ''.join(
    f'0: 2026-01-01 12:00:00 INFO {line}\n' for line in text.splitlines()
  )


def _among_output(text):
  """Between other output, progress bars and lines that speak of logs."""
  noise = 'loss 0.5\r 10% \r 20%\x00\xff\n about :::MLLOG, see the rules\n'
  return noise.join(f'{line}\n' for line in text.splitlines())


_HARMLESS_TEXT = (
  ('srun_prefix', _prefixed),
  ('other_output', _among_output),
  ('windows_lines', lambda text: text.replace('\n', '\r\n')),
  ('overwritten_progress', lambda text: text.replace('\n', '\n 5%\r')),
  ('no_last_newline', lambda text: text.rstrip('\n')),
  ('byte_order_mark', lambda text: '\xef\xbb\xbf' + text),
  ('long_output', lambda text: 'x' * (3 << 20) + text + 'y' * (2 << 20)),
)


def _replaced(old, new):
  return lambda text: text.replace(old, new, 1)


_BROKEN_TEXT = (
  ('empty', lambda text: '', 'empty'),
  ('no_record', lambda text: 'hello\n', 'has none'),
  ('utf16', lambda text: '\xff\xfe' + '\0'.join(text), 'UTF-16'),
  ('round_of_old', lambda text: ':::MLL 17.0 run_start: {}\n', 'before v0.7'),
  ('cut_off', lambda text: text[:-40], 'JSON'),
  ('cut_in_the_middle', _replaced('"metadata": {', '"meta'), 'JSON'),
  ('no_space', _replaced(':::MLLOG ', ':::MLLOG'), 'space'),
  ('not_an_object', _replaced(':::MLLOG {', ':::MLLOG []\n:::MLLOG {'),
   'object'),
  ('no_value', _replaced('"value": true, ', ''), 'value'),
  ('no_metadata', _replaced('"metadata"', '"meta"'), 'metadata'),
  ('metadata_a_list', _replaced(
      '"metadata": {"file": "train.py", "lineno": 1}', '"metadata": []'),
   'metadata'),
  ('key_a_number', _replaced('"cache_clear"', '7'), 'key'),
  ('named_twice', _replaced('"value": 0.99,', '"value": 0.1, "value": 0.99,'),
   'twice'),
  ('deep', _replaced('"value": true', '"value": ' + '[' * 100_000), 'JSON'),
  ('joined', _replaced('\n', ' '), 'several'),
  ('interleaved', _replaced('"key": "seed"', '"key": :::MLLOG {"a"'),
   'several'),
  ('latin_1', _replaced('acme', '\xe9cole'), 'UTF-8'),
  ('endless_line', _replaced('"acme"', '"' + 'x' * (3 << 20) + '"'), 'longer'),
)  # fmt: skip


class FileTest(audit_logs.LogTestCase):
  """Text around the records, and records that are broken."""

  @parameterized.named_parameters(*_HARMLESS_TEXT)
  def test_text_around_records_is_no_fault(self, change):
    text = audit_logs.write(self.path, audit_logs.good()).read_text()
    self.assert_nothing(self.check_text(change(text)))

  @parameterized.named_parameters(*_BROKEN_TEXT)
  def test_a_broken_file_is_told_in_words(self, change, text):
    good = audit_logs.write(self.path, audit_logs.good()).read_text()
    self.assert_found(self.check_text(change(good)), 'record', text)

  def test_what_is_no_file_is_told_and_not_waited_for(self):
    pipe = self.directory / 'pipe'
    os.mkfifo(pipe)
    for path in (pipe, self.directory, self.directory / 'none', 'a\0b'):
      (finding,) = audit.examine_log(path, get=audit_logs.get).findings
      self.assertEqual(finding.rule, 'readable')

  def test_a_flood_of_records_and_keys_is_bounded(self):
    events = audit_logs.good()
    stop = events.pop()
    flood = [Event(f'key_{i}', i, time_ms=stop.time_ms) for i in range(5000)]
    flood += [find(events, 'eval_accuracy')] * 21_000
    audited = self.check([*events, *flood, stop])
    self.assert_found(audited, 'size of a log', 'timeline')
    self.assert_found(audited, 'size of a log', 'settings')


if __name__ == '__main__':
  absltest.main()
