"""Flags that several entrypoints share, and what they ask for, checked."""

from collections.abc import Sequence
import dataclasses
import json
import os
from typing import Any

from absl import flags

from input_pipelines.reading.settings import DEFAULT_READING, Reading, Skips
from launch import profiles
from launch.profiles import Profile
from launch.support import cli
from suite import benchmark as benchmark_lib
from suite import hparams as hparams_lib
from suite import names
from suite.hparams import Division
from suite.log_keys import STATUSES, is_safe

# Those of suite.run.program, which imports JAX; a test holds them together.
SPREADS = ('none', 'optimizer', 'parameters')

# Fields of Reading, and the flags that set them.
_READING = {
  'threads': 'input_threads',
  'processes': 'input_processes',
  'skips': 'skip_corrupt_records',
}


def define(only: Sequence[str] = ()) -> None:
  """Defines the flags that commands share: all of them, or `only` some."""
  before = set(flags.FLAGS)
  for group in (_what, _checkpoints, _compiling, _input, _hosts, _submission):
    group()
  defined = set(flags.FLAGS) - before
  if only:
    flags.FLAGS.remove_flag_values(defined - set(only))


def _what() -> None:
  first = ('benchmark', 'size', 'hp', 'data_dir', 'list')
  with cli.group(cli.WHAT, first=first):
    sizes = {n: list(benchmark_lib.get(n).sizes) for n in benchmark_lib.names()}
    flags.DEFINE_string(
      'benchmark', 'resnet', f'What to train: {", ".join(sizes)}.'
    )
    more = {size for each in sizes.values() for size in each}
    more -= {'tiny', 'reference'}
    flags.DEFINE_string(
      'size',
      'tiny',
      'reference: exactly the rules, on the full data set. tiny: the same code '
      'with smaller numbers, on embedded data, with a target of its own. Some '
      f'benchmarks have more (--list): {", ".join(sorted(more))}.',
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
    flags.DEFINE_bool(
      'list',
      False,
      'List the benchmarks, their sizes and whether their data is prepared, '
      'and end.',
    )
    flags.DEFINE_integer(
      'skip_corrupt_records',
      0,
      'Training records that may be left out because they cannot be read, each '
      'counted in the result. Open division only.',
      lower_bound=0,
    )


def _checkpoints() -> None:
  with cli.group(cli.RESULT):
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
      'Steps from one checkpoint to the next, between evals too. 0: none '
      'there.',
      lower_bound=0,
    )
    flags.DEFINE_bool(
      'checkpoint_strict',
      False,
      'Ends a run whose checkpoint cannot be written; by default it warns, and '
      'tries the next one when it is due.',
    )
    flags.DEFINE_bool(
      'keep_checkpoints',
      False,
      'Keeps the last two checkpoints when the run has come to its end.',
    )


def _compiling() -> None:
  with cli.group(cli.SPEED, first=('profile',)):
    flags.DEFINE_string(
      'profile',
      '',
      'What compiler and runtime are told, by platform: a file of '
      'launch/profiles, or several with commas between; by default nothing.',
    )
    flags.DEFINE_multi_string(
      'compiler_option',
      [],
      'An option of XLA as name=value, in place of the one of the profile; may '
      'be given again.',
    )
    flags.DEFINE_integer('model_axis', 1, 'Devices that a model is split over.')
    flags.DEFINE_enum(
      'spread',
      'none',
      SPREADS,
      'What the data axis splits too, to need less memory: the buffers of the '
      'optimizer, or these and the parameters.',
    )
    flags.DEFINE_bool(
      'groups_across_hosts',
      False,
      'Lets a batch norm group be on several hosts, which then wait for each '
      'other in every layer.',
    )
    flags.DEFINE_string(
      'compile_cache',
      os.environ.get('JAX_COMPILATION_CACHE_DIR')
      or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
        'podium',
        'compiled',
      ),
      'Directory that keeps compiled programs for later runs, by default that '
      "of JAX's own variable or of the user; empty: none. Use one that only "
      'you can write to: what lies there is executed.',
    )


def _input() -> None:
  with cli.group(cli.SPEED, first=('platform',)):
    flags.DEFINE_string(
      'platform',
      '',
      'Platform that must be used (cpu, gpu, tpu); by default any.',
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
      'which is faster up to about 15,000 images a second.',
      lower_bound=0,
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


def _hosts() -> None:
  with cli.group(cli.HOSTS):
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
      'How long one stage before the first step, such as compiling, may take.',
      lower_bound=1.0,
    )
    flags.DEFINE_float(
      'join_seconds',
      300.0,
      'How long the ranks wait for one another to join.',
      lower_bound=1.0,
    )
    flags.DEFINE_integer(
      'expect_devices',
      None,
      'Devices there must be on all hosts together; by default as many as '
      'PODIUM_DEVICES says.',
      lower_bound=1,
    )


def _submission() -> None:
  with cli.group(cli.SUBMISSION):
    flags.DEFINE_string('submission_org', 'unofficial', 'Who runs this.')
    flags.DEFINE_string(
      'submission_platform', '', 'Name of the system; by default its devices.'
    )
    for name in ('submission_org', 'submission_platform'):
      flags.register_validator(
        name,
        is_safe,
        'expected a name of printable characters that is no path',
      )
    flags.DEFINE_enum(
      'submission_status',
      'research',
      list(STATUSES),
      'Availability of the system.',
    )


@dataclasses.dataclass(frozen=True)
class Request:
  """Request that the shared flags make."""

  benchmark: benchmark_lib.Benchmark
  size_name: str
  size: benchmark_lib.Size
  division: Division
  hparams: Any
  reading: Reading = DEFAULT_READING
  profile: Profile = profiles.NONE

  @property
  def identity(self) -> dict[str, Any]:
    """Facts that tell one training from another, as JSON holds them."""
    values = {d.name: d.value for d in hparams_lib.declared(self.hparams)}
    return {
      'benchmark': self.benchmark.name,
      'size': self.size_name,
      'division': self.division.value,
      'hyperparameters': json.loads(json.dumps(values)),  # tuples are lists
    }


def request(hp: Sequence[str] | None = None) -> Request:
  """Reads the shared flags; ValueError, in one line, for what cannot be had.

  `hp` stands in for --hp, where a program applies that itself.
  """
  values = flags.FLAGS
  benchmark = benchmark_lib.get(values.benchmark)
  size = benchmark.size(values.size)
  division = Division(values.division)
  hparams = hparams_lib.override(
    size.hparams,
    names.assignments('hp', values.hp if hp is None else hp),
    division,
  )
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


def _reading(division: Division) -> Reading:
  values = flags.FLAGS
  if 'input_threads' not in values:
    return DEFAULT_READING
  skips = None
  if values.skip_corrupt_records:
    if division is not Division.OPEN:
      raise ValueError(
        '--skip_corrupt_records needs --division=open: in Closed every record '
        'is trained on.'
      )
    skips = Skips(values.skip_corrupt_records)
  return Reading(values.input_threads, values.input_processes, skips)


def require_reads(request: Request, supported: Sequence[str]) -> None:
  """Raises ValueError for a flag of reading that a benchmark lacks."""
  for field, flag in _READING.items():
    given = getattr(request.reading, field)
    if given != getattr(DEFAULT_READING, field) and field not in supported:
      others = [f'--{other}' for n, other in _READING.items() if n in supported]
      raise ValueError(
        f'{request.benchmark.name} does not support --{flag}; of the flags of '
        f'reading it supports {", ".join(others) or "none"}.'
      )
