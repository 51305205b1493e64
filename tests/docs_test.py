"""Pages name only what exists: links, files, commands and their flags."""

import importlib
import pathlib
import re
import shlex

from absl import flags
from absl.testing import absltest

from tests.launch import entrypoint_flags

_ROOT = pathlib.Path(__file__).parent.parent
_PAGES = sorted(
  [
    _ROOT / 'README.md',
    *_ROOT.glob('docs/*.md'),
    *_ROOT.glob('suite/benchmarks/*/NOTES.md'),
  ]
)
_PATH = re.compile(
  r'(?<![\w/.])(?:docs|input_pipelines|launch|models|studies|suite|tests)'
  r'/[\w/.]*\w\.(?:csv|json|md|py|yaml)\b'
)
_COMMAND = re.compile(r'python (?:-m ([\w.]+)|(studies/\w+\.py))')
_FLAG = re.compile(r'--([a-z]\w*)')
_HELP = ('--help', '--helpfull')
_IN_TEXT = re.compile(r'`(?:launch\.[\w.]+ )?--([a-z]\w*)')
# Flags of launch.minigo.bootstrap and of scripts in studies/.
_MORE = {'generations', 'target_generations', 'work_dir', 'stop_at_target',
         'first_seed'}  # fmt: skip


def _commands(text):
  """The module or script of each command in blocks of a page; its arguments.

  After ` -- ` another command's arguments follow, and after `|`, `>` and `#`
  none.
  """
  for block in re.findall(r'^ *```\n(.*?)^ *```', text, re.M | re.S):
    for line in re.sub(r'\\\n', ' ', block).splitlines():
      line = re.split(r' [#|>&]', f'{line} ')[0]
      if found := _COMMAND.search(line):
        own, _, rest = line[found.end() :].partition(' -- ')
        yield found[1] or found[2], _words(own)
        if rest:
          module, _, own = rest.strip().partition(' ')
          yield module, _words(own)


def _words(text):
  """Arguments, without the brackets around those that may be left away."""
  return [word.strip('[]') for word in shlex.split(text) if word != '...']


def commands():
  """Every command of every page, with its arguments."""
  for page in _PAGES:
    yield from _commands(page.read_text(encoding='utf-8'))


def _flags_of(command):
  """The flags of a module of launch, or the strings in a script of studies.

  Those of a script are in its source, and in that of studies it imports.
  """
  if not command.startswith('launch.'):
    name = command.removesuffix('.py').replace('.', '/')
    text = (_ROOT / f'{name}.py').read_text(encoding='utf-8')
    for other in _ROOT.glob('studies/*.py'):
      if re.search(rf'^(import|from) .*\b{other.stem}\b', text, re.M):
        text += other.read_text(encoding='utf-8')
    return set(re.findall(r"'([a-z]\w*)'", text))
  names = entrypoint_flags.define(importlib.import_module(command))
  try:
    switches = {f'no{name}' for name in names if flags.FLAGS[name].boolean}
    return switches | {'help', 'helpfull', *names}
  finally:
    entrypoint_flags.remove(names)


class PagesTest(absltest.TestCase):
  def test_every_link_leads_somewhere(self):
    for page in _PAGES:
      text = page.read_text(encoding='utf-8')
      for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in link:
          continue
        name, _, section = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        self.assertTrue(target.exists(), f'{page.name}: {link}')
        if section:
          titles = re.findall(r'^#+ (.*)$', target.read_text(), re.M)
          anchors = [
            re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')
            for title in titles
          ]
          self.assertIn(section, anchors, f'{page.name}: {link}')

  def test_every_file_that_is_named_is_there(self):
    for page in _PAGES:
      for path in _PATH.findall(page.read_text(encoding='utf-8')):
        if '/NAME/' not in path:
          self.assertTrue((_ROOT / path).exists(), f'{page.name}: {path}')

  def test_every_command_has_the_flags_that_it_is_given(self):
    used = {}
    for page in _PAGES:
      for command, given in _commands(page.read_text(encoding='utf-8')):
        names = (_FLAG.match(each) for each in given)
        used.setdefault(command, set()).update(n[1] for n in names if n)
    self.assertGreater(len(used), 15)
    for command, given in used.items():
      self.assertContainsSubset(given, _flags_of(command), command)

  def test_every_command_is_taken_by_its_entrypoint(self):
    """Commands of scripts are, too: tests/studies/scripts_test.py."""
    asked = {}
    for command, given in commands():
      if command.startswith('launch.'):
        asked.setdefault(command, []).append(given)
    self.assertGreater(sum(map(len, asked.values())), 60)
    for command, lists in asked.items():
      names = entrypoint_flags.define(importlib.import_module(command))
      try:
        for given in lists:
          with self.subTest(' '.join([command, *given])):
            flags.FLAGS([command, *(g for g in given if g not in _HELP)])
      finally:
        entrypoint_flags.remove(names)

  def test_every_flag_in_the_text_is_one_of_some_command(self):
    known = set()
    for path in _ROOT.glob('launch/*.py'):
      if 'def define_flags' in path.read_text(encoding='utf-8'):
        known |= _flags_of(f'launch.{path.stem}')
    for page in _PAGES:
      found = set(_IN_TEXT.findall(page.read_text(encoding='utf-8')))
      self.assertContainsSubset(found, known | _MORE, page.name)

  def test_a_command_is_read_over_lines_and_after_another(self):
    text = 'python -m launch.local --processes=2 -- launch.train \\\n  --run=1'
    found = list(_commands(f'```\n{text}\n```\n'))
    self.assertEqual(
      found,
      [('launch.local', ['--processes=2']), ('launch.train', ['--run=1'])],
    )


if __name__ == '__main__':
  absltest.main()
