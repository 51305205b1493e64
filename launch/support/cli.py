"""The command line of an entrypoint: its flags, help, refusals, exit code."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import os
import signal
import sys
import textwrap
from typing import NoReturn

from absl import app, flags, logging

from launch.support import accessory, signals

USAGE_ERROR = 2

_HELP = {'--help': False, '-help': False, '-h': False, '--helpfull': True,
         '-helpfull': True}  # fmt: skip
_OWN = 'Flags of this command'
_COLUMNS = 79
# Titles of --help, in their order, and the flags that are defined there.
WHAT = 'What is run'
RESULT = 'Where the result goes'
SPEED = 'Speed'
HOSTS = 'Many hosts'
SUBMISSION = 'Submission'
_groups: dict[str, list[str]] = {
  title: [] for title in (WHAT, RESULT, SPEED, HOSTS, SUBMISSION)
}
_first: set[str] = set()


@contextlib.contextmanager
def group(title: str, *, first: Sequence[str] = ()) -> Iterator[None]:
  """Puts the flags that are defined inside under a title of --help.

  --help shows those of `first` alone, and --helpfull all of them.
  """
  before = set(flags.FLAGS)
  yield
  defined = [name for name in flags.FLAGS if name not in before]
  _groups[title] += [n for n in defined if n not in _groups[title]]
  _first.update(first)


def run(
  main: Callable[..., int],
  *,
  define: Callable[[], None] = lambda: None,
  first: Callable[[], None] = lambda: None,
  path_to: str = '',
  rest: bool = False,
  measures: bool = False,
) -> NoReturn:
  """Runs an entrypoint that takes flags; exits with what `main` returns.

  With `path_to` it also takes one path, to what that says, and `main` gets it;
  with `rest` it takes anything, and `main` gets the list. What `measures` runs
  on when it cannot print, and waits for no thread in the end. `first` is called
  before flags are defined.
  A usage error, and a ValueError or an OSError of `main`, is a refusal: one
  line, exit code 2. Ctrl-C that nobody handles ends the process without a word.
  """
  signals.by_default(signal.SIG_DFL if measures else signal.default_int_handler)
  if measures:
    accessory.protect()
  else:
    accessory.show_all()
  first()
  before = set(flags.FLAGS)
  define()
  own = [name for name in flags.FLAGS if name not in before]

  def parse(argv: Sequence[str]) -> list[str]:
    given = argv[: argv.index('--')] if '--' in argv else argv
    for each in given[1:]:
      if each in _HELP:
        print(help_text(own, full=_HELP[each]))
        sys.exit(0)
    try:
      return flags.FLAGS(argv)
    except flags.Error as error:
      sys.exit(refuse(f'{error} (--help lists the flags)'))

  def entry(argv: Sequence[str]) -> int:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # TFDS tells of every file
    try:
      code = main(argv[1:]) if rest else main(*_paths(argv[1:], path_to))
    except (ValueError, OSError) as error:
      code = refuse(str(error))
    except KeyboardInterrupt:
      signals.end_by(signal.SIGINT)
    if measures:
      accessory.leave(code)
    return code

  app.run(entry, flags_parser=parse)


def refuse(text: str) -> int:
  """Prints the refusal and returns the exit code that goes with it."""
  print(f'error: {text}', file=sys.stderr)
  return USAGE_ERROR


def help_text(own: Sequence[str], *, full: bool) -> str:
  """The entrypoint's docstring, and its flags by group."""
  parts = [(sys.modules['__main__'].__doc__ or '').strip()]
  grouped = {name for names in _groups.values() for name in names}
  groups = {**_groups, _OWN: [name for name in own if name not in grouped]}
  hidden = 0
  for title, names in groups.items():
    mine = [name for name in names if name in own]
    shown = [n for n in mine if full or title == _OWN or n in _first]
    hidden += len(mine) - len(shown)
    if shown:
      parts.append('\n'.join([f'{title}:', *map(_described, shown)]))
  if hidden:
    parts.append(f'--helpfull lists {hidden} flags more.')
  return '\n\n'.join(parts)


def _described(name: str) -> str:
  flag = flags.FLAGS[name]
  text = flag.help.partition(';\n')[0]  # what absl adds of repeating
  if isinstance(flag.parser, flags.EnumParser):
    text += f' One of {", ".join(flag.parser.enum_values)}.'
  if flag.default not in (None, '', [], False):
    text += f' Default: {flag.default_as_str.strip(chr(39))}.'
  prefix = '[no]' if flag.boolean else ''
  return textwrap.fill(
    text,
    _COLUMNS,
    initial_indent=f'  --{prefix}{name}: ',
    subsequent_indent='      ',
  )


def _paths(given: Sequence[str], path_to: str) -> Sequence[str]:
  if not path_to and given:
    raise ValueError(f'Unexpected argument {given[0]!r}; flags start with --.')
  if path_to and len(given) != 1:
    raise ValueError(f'Expected one path, to {path_to}, got {len(given)}.')
  if path_to and not os.path.exists(given[0]):
    raise ValueError(f'Expected {path_to}; there is no {given[0]!r}.')
  return given
