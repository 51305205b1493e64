"""Flags that several entrypoints share, and what they ask for, checked."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import sys
from typing import Any, NoReturn

from absl import app, flags, logging

from input_pipelines import batching
from suite import benchmark as benchmark_lib
from suite import hparams as hparams_lib
from suite.hparams import Division

USAGE_ERROR = 2


def define_run_flags() -> None:
  """The flags that say what is trained; `launch.train` and `.benchmark`."""
  flags.DEFINE_string('benchmark', 'resnet', 'Which benchmark to run.')
  flags.DEFINE_string(
    'size',
    'tiny',
    'reference: exactly the rules, on the full data set. tiny: the same code '
    'with smaller numbers, on embedded data, with a target of its own.',
  )
  flags.DEFINE_enum(
    'division',
    'closed',
    [division.value for division in Division],
    'closed: hyperparameters within the rules. open: any.',
  )
  flags.DEFINE_multi_string(
    'hp',
    [],
    'A hyperparameter as name=value; may be given again. launch.train '
    '--list_hp lists them.',
  )
  flags.DEFINE_string(
    'data_dir', 'data', 'Where launch.prepare_data has put the data sets.'
  )
  flags.DEFINE_integer(
    'input_threads',
    None,
    'Threads that read and decode; by default one a core.',
    lower_bound=0,
  )
  flags.DEFINE_integer(
    'input_processes',
    0,
    'Processes that share the reading of training data; 0: threads alone, '
    'which is the faster up to about 15,000 images a second.',
    lower_bound=0,
  )
  flags.DEFINE_integer(
    'skip_corrupt_records',
    0,
    'Training records that may be left out because they cannot be read, each '
    'counted in the result. Open division only.',
    lower_bound=0,
  )
  flags.DEFINE_string(
    'platform',
    '',
    'The platform that must be used (cpu, gpu, tpu); empty: any that JAX has.',
  )
  flags.DEFINE_integer('model_axis', 1, 'Devices that a model is split over.')
  flags.DEFINE_string('submission_org', 'unofficial', 'Who runs this.')
  flags.DEFINE_string(
    'submission_platform', '', 'Name of the system; by default its devices.'
  )
  flags.DEFINE_enum(
    'submission_status',
    'research',
    ['onprem', 'cloud', 'preview', 'research'],
    'How the system can be had.',
  )
  flags.DEFINE_string(
    'compile_cache',
    os.path.join(
      os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
      'podium',
      'compiled',
    ),
    'Directory that keeps compiled programs for later runs; empty: none. Use '
    'one that only you can write to: what lies there is executed.',
  )


@dataclasses.dataclass(frozen=True)
class Request:
  """What the shared flags ask for."""

  benchmark: benchmark_lib.Benchmark
  size_name: str
  size: benchmark_lib.Size
  division: Division
  hparams: Any
  reading: batching.Reading = batching.DEFAULT_READING


def request() -> Request:
  """Reads the shared flags; ValueError, in one line, for what cannot be had."""
  values = flags.FLAGS
  benchmark = benchmark_lib.get(values.benchmark)
  size = benchmark.size(values.size)
  division = Division(values.division)
  hparams = hparams_lib.override(size.hparams, _changes(values.hp), division)
  return Request(
    benchmark, values.size, size, division, hparams, _reading(division)
  )


def as_arguments() -> list[str]:
  """The shared flags that were set, as another process takes them."""
  module = flags.FLAGS.flags_by_module_dict()[__name__]
  given = [flag.serialize() for flag in module if flag.present]
  return [line for text in given for line in text.splitlines() if line]


def run(
  main: Callable[..., int],
  *,
  define: Callable[[], None] | None = None,
  path_to: str = '',
) -> NoReturn:
  """Runs an entrypoint that takes flags; exits with what `main` returns.

  With `path_to` it also takes one path, to what that says, and `main` gets it.
  What cannot be called, and a ValueError or an OSError of `main`, is a refusal:
  one line, exit code 2.
  """
  if define:
    define()

  def entry(argv: Sequence[str]) -> int:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # TFDS tells of every file
    try:
      return main(*_paths(argv[1:], path_to))
    except (ValueError, OSError) as error:
      return refuse(str(error))

  app.run(entry, flags_parser=_parse)


def refuse(text: str) -> int:
  """Prints the refusal and returns the exit code that goes with it."""
  print(f'error: {text}', file=sys.stderr)
  return USAGE_ERROR


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    sys.exit(refuse(f'{error} (--help lists the flags)'))


def _paths(given: Sequence[str], path_to: str) -> Sequence[str]:
  if not path_to and given:
    raise ValueError(f'Unexpected argument {given[0]!r}; flags start with --.')
  if path_to and len(given) != 1:
    raise ValueError(f'Expected one path, to {path_to}, got {len(given)}.')
  if path_to and not os.path.exists(given[0]):
    raise ValueError(f'Expected {path_to}; there is no {given[0]!r}.')
  return given


def _reading(division: Division) -> batching.Reading:
  values = flags.FLAGS
  skips = None
  if values.skip_corrupt_records:
    if division is not Division.OPEN:
      raise ValueError(
        '--skip_corrupt_records needs --division=open: in Closed every record '
        'is trained on.'
      )
    skips = batching.Skips(values.skip_corrupt_records)
  return batching.Reading(values.input_threads, values.input_processes, skips)


def _changes(texts: Sequence[str]) -> dict[str, str]:
  changes = {}
  for text in texts:
    name, equals, value = text.partition('=')
    if not equals or not name:
      raise ValueError(f'--hp takes name=value, not {text!r}.')
    if name in changes:
      raise ValueError(f'--hp gives {name} twice.')
    changes[name] = value
  return changes
