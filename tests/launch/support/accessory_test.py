"""Tests of programs that run on when what they print is lost."""

import io
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from launch.support import accessory
from tests.launch import processes

_PROGRAM = """
import logging
import sys
import threading
from launch.support import cli

def main():
  threading.Thread(target=threading.Event().wait).start()  # of a library
  logging.warning('of a library')
  for number in range(3):
    print('step', number, chr(8230), flush=True)
    print('beside', file=sys.stderr)
  with open(sys.argv[1], 'w') as log:
    print('a line', flush=True)
    log.write('done')
  return 5

cli.run(lambda _: main(), measures=True, rest=True)
"""


class LostTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.log = os.path.join(self.create_tempdir().full_path, 'log')

  def assert_whole(self, code):
    self.assertEqual(code, 5)
    with open(self.log, encoding='utf-8') as file:
      self.assertEqual(file.read(), 'done')

  def start(self, stdout, shell='', **variables):
    command = [sys.executable, '-c', _PROGRAM, self.log]
    if shell:
      command = ['sh', '-c', f'exec "$@" {shell}', 'sh', *command]
    started = subprocess.Popen(
      command,
      cwd=processes.ROOT,
      env={**os.environ, **variables},
      stdout=stdout,
      stderr=subprocess.PIPE,
    )
    self.addCleanup(started.wait)
    self.addCleanup(started.kill)
    return started

  def test_a_reader_that_is_gone(self):
    process = self.start(subprocess.PIPE)
    process.stdout.close()
    errors = process.communicate()[1]
    self.assert_whole(process.returncode)
    warning, *rest = errors.splitlines()
    self.assertEndsWith(warning, b'of a library')
    self.assertEqual(rest, [b'beside'] * 3)

  @parameterized.parameters('>/dev/full', '>&-', '>&- 2>&- <&-', '2>/dev/full')
  def test_a_full_disk_and_closed_streams(self, shell):
    process = self.start(None if '>&' in shell else subprocess.DEVNULL, shell)
    process.communicate()
    self.assert_whole(process.returncode)

  def test_a_terminal_that_knows_ascii_alone(self):
    process = self.start(subprocess.PIPE, PYTHONIOENCODING='ascii')
    out = process.communicate()[0]
    self.assert_whole(process.returncode)
    self.assertStartsWith(out, b'step 0 \\u2026\n')


class EncodingTest(parameterized.TestCase):
  @parameterized.parameters('ascii', 'latin-1', 'cp1252', 'koi8-r', 'utf-8')
  def test_what_is_printed_is_what_the_terminal_can_show(self, encoding):
    every = ''.join(map(chr, [*range(32, 0x500), *range(0x2000, 0x2300),
                              0xD800, 0xDCFF, 0xFFFD, 0x1F600]))  # fmt: skip
    screen = io.BytesIO()
    with mock.patch.object(
      sys, 'stdout', io.TextIOWrapper(screen, encoding, 'strict')
    ):
      accessory.show_all()
      print(every, end='', flush=True)
      shown = screen.getvalue().decode(encoding)
    kept, escaped = set(every) & set(shown), every
    for character in set(every) - kept:
      escape = character.encode('ascii', 'backslashreplace').decode()
      escaped = escaped.replace(character, escape)
    self.assertEqual(shown, escaped)

  @parameterized.parameters(
    ('launch.check', 'ascii', 1), ('launch.score', 'latin-1', 2)
  )
  def test_a_command_shows_any_name_of_a_file(self, command, encoding, code):
    folder = self.create_tempdir().full_path
    name = os.path.join(os.fsencode(folder), b'\xff\xe2\x82\xac\xc3\xa9')
    os.mkdir(name)
    done = subprocess.run(
      [sys.executable, '-m', command, name],
      cwd=processes.ROOT,
      env={**os.environ, 'PYTHONIOENCODING': encoding},
      capture_output=True,
    )
    self.assertEqual(done.returncode, code, done.stderr)
    self.assertNotIn(b'Traceback', done.stderr)
    self.assertIn(rb'\udcff\u20ac', done.stdout + done.stderr)


if __name__ == '__main__':
  absltest.main()
