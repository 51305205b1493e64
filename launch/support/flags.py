"""Flags that several entrypoints share, and what they ask for, checked."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import sys
from typing import Any, NoReturn

from absl import app, flags, logging

from input_pipelines.reading import batching
from launch import profiles
from launch.profiles import Profile
from suite import benchmark as benchmark_lib
from suite import hparams as hparams_lib
from suite.hparams import Division
from suite.log_keys import STATUSES
from suite.run import program

USAGE_ERROR = 2
# Fields of batching.Reading, and the flags that set them.
_READING = {
  'threads': 'input_threads',
  'processes': 'input_processes',
  'skips': 'skip_corrupt_records',
}


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
  flags.DEFINE_string(
    'profile',
    '',
    'What compiler and runtime are told, by platform: a file of '
    'launch/profiles, or several with commas between; by default nothing.',
  )
  flags.DEFINE_multi_string(
    'compiler_option',
    [],
    "An option of XLA's as name=value, in place of the profile's; may be given "
    'again.',
  )
  flags.DEFINE_bool(
    'preflight',
    None,
    'Before the clock, measure every device, an all-reduce, the disk and the '
    "hosts' clocks; by default unless the devices are CPUs.",
  )
  flags.DEFINE_bool(
    'preflight_strict', False, 'Refuse to run with a device that is slow.'
  )
  flags.DEFINE_integer('model_axis', 1, 'Devices that a model is split over.')
  flags.DEFINE_enum(
    'spread',
    'none',
    program.SPREADS,
    'What the data axis splits too, to need less memory: the buffers of the '
    'optimizer, or these and the parameters.',
  )
  flags.DEFINE_bool(
    'groups_across_hosts',
    False,
    'Lets a batch norm group be on several hosts, which then wait for each '
    'other in every layer.',
  )
  flags.DEFINE_string('submission_org', 'unofficial', 'Who runs this.')
  flags.DEFINE_string(
    'submission_platform', '', 'Name of the system; by default its devices.'
  )
  flags.DEFINE_enum(
    'submission_status',
    'research',
    list(STATUSES),
    'How the system can be had.',
  )
  flags.DEFINE_float(
    'watchdog_seconds',
    None,
    'How long a rank may be at one step before the job is ended; by default '
    '600 with several processes. Given, it holds for a single one too.',
    lower_bound=1.0,
  )
  flags.DEFINE_float(
    'startup_seconds',
    3600.0,
    'How long one stage before the first step may take, compiling for one.',
    lower_bound=1.0,
  )
  flags.DEFINE_float(
    'join_seconds',
    300.0,
    'How long the ranks wait for one another to come.',
    lower_bound=1.0,
  )
  flags.DEFINE_integer(
    'expect_devices',
    None,
    'Devices there must be on all hosts together; by default as many as '
    'PODIUM_DEVICES says.',
    lower_bound=1,
  )
  flags.DEFINE_float(
    'checkpoint_minutes',
    10.0,
    'Minutes from one checkpoint to the next, each after an eval. 0: none '
    'there.',
    lower_bound=0.0,
  )
  flags.DEFINE_integer(
    'checkpoint_steps',
    0,
    'Steps from one checkpoint to the next, between evals too. 0: none there.',
    lower_bound=0,
  )
  flags.DEFINE_bool(
    'keep_checkpoints',
    False,
    'Keeps the last two checkpoints when the run has come to its end.',
  )
  flags.DEFINE_string(
    'compile_cache',
    os.environ.get('JAX_COMPILATION_CACHE_DIR')
    or os.path.join(
      os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
      'podium',
      'compiled',
    ),
    'Directory that keeps compiled programs for later runs, by default that of '
    "JAX's own variable or of the user; empty: none. Use one that only you can "
    'write to: what lies there is executed.',
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
  profile: Profile = profiles.NONE


def request() -> Request:
  """Reads the shared flags; ValueError, in one line, for what cannot be had."""
  values = flags.FLAGS
  benchmark = benchmark_lib.get(values.benchmark)
  size = benchmark.size(values.size)
  division = Division(values.division)
  hparams = hparams_lib.override(size.hparams, changes(values.hp), division)
  profile = profiles.with_options(
    profiles.load(values.profile), values.compiler_option
  )
  return Request(
    benchmark, values.size, size, division, hparams, _reading(division), profile
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
  rest: bool = False,
) -> NoReturn:
  """Runs an entrypoint that takes flags; exits with what `main` returns.

  With `path_to` it also takes one path, to what that says, and `main` gets it;
  with `rest` it takes anything, and `main` gets the list.
  What cannot be called, and a ValueError or an OSError of `main`, is a refusal:
  one line, exit code 2.
  """
  if define:
    define()

  def entry(argv: Sequence[str]) -> int:
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # TFDS tells of every file
    try:
      return main(argv[1:]) if rest else main(*_paths(argv[1:], path_to))
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


def require_reads(request: Request, supported: Sequence[str]) -> None:
  """ValueError for a flag of reading that a benchmark does not support."""
  default = batching.DEFAULT_READING
  for field, flag in _READING.items():
    given = getattr(request.reading, field)
    if given != getattr(default, field) and field not in supported:
      others = [f'--{other}' for n, other in _READING.items() if n in supported]
      raise ValueError(
        f'{request.benchmark.name} does not support --{flag}; of the flags of '
        f'reading it supports {", ".join(others) or "none"}.'
      )


def changes(texts: Sequence[str]) -> dict[str, str]:
  """--hp's texts -> {name: text}; ValueError for what is no name=value."""
  found = {}
  for text in texts:
    name, equals, value = text.partition('=')
    if not equals or not name:
      raise ValueError(f'--hp takes name=value, not {text!r}.')
    if name in found:
      raise ValueError(f'--hp gives {name} twice.')
    found[name] = value
  return found
