r"""Trains one benchmark once, from startup to its target, and logs it.

python -m launch.train --benchmark=resnet --size=tiny --output=results/try

Writes OUTPUT/result_<run>.txt, the log that checkers read, and
OUTPUT/run_<run>.json, all that the report shows. Exit code: 0 target met, 1 not
met or failed, 2 refused before anything was started, 75 ended by the watchdog
because a rank was late, died, was lost or did not come, 128 + n ended by signal
n.
"""

from typing import TYPE_CHECKING

from absl import flags as absl_flags

from launch.cluster import arrival
from launch.support import cli

# All else is imported once this rank is announced.
if TYPE_CHECKING:
  from launch.support import run_flags

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The shared flags, and those of one run."""
  from launch.support import run_flags

  run_flags.define()
  with cli.group(cli.WHAT, first=('list_hp', 'rehearse')):
    absl_flags.DEFINE_bool(
      'rehearse',
      False,
      'Trains two steps and makes one whole eval on the real data, untimed and '
      'unlogged, and ends: faults of either are found before they cost a run.',
    )
    absl_flags.DEFINE_bool(
      'list_hp', False, 'List the hyperparameters and end.'
    )
    absl_flags.DEFINE_integer(
      'seed',
      None,
      'Seed; by default from the operating system, as the rules want it.',
      lower_bound=0,
      upper_bound=2**32 - 1,
    )
  with cli.group(cli.RESULT, first=('output', 'resume')):
    absl_flags.DEFINE_string(
      'output', '', 'Directory for the log and the result.'
    )
    absl_flags.DEFINE_integer(
      'run', 0, 'Number of this run, from 0.', lower_bound=0
    )
    absl_flags.DEFINE_bool(
      'resume',
      False,
      'Resumes the unfinished run of this --output and --run from its newest '
      'checkpoint; the time since then counts.',
    )
    absl_flags.DEFINE_enum(
      'progress', 'text', ['text', 'json', 'none'], 'How progress is printed.'
    )


def main() -> int:
  """Trains once; see the module."""
  from launch.cluster import supervising, supervisor
  from launch.support import listing

  if FLAGS.list:
    print(listing.benchmarks(FLAGS.data_dir))
    return 0
  if FLAGS.list_hp:
    print(listing.hyperparameters(_request()))
    return 0
  if job := supervising.job(_request):
    return supervisor.supervise(job)
  request = _request()
  with supervising.held():
    # Here, so that whoever only asks, or watches, does not wait for JAX.
    from launch import training

    return training.run(request)


def _request() -> 'run_flags.Request':
  """The flags' request; ValueError where they contradict each other."""
  from launch.support import run_flags

  request = run_flags.request()
  if FLAGS.rehearse and FLAGS.resume:
    raise ValueError('Expected --rehearse or --resume, got both.')
  if not FLAGS.output and not (FLAGS.rehearse or FLAGS.list_hp):
    raise ValueError('--output=DIR is needed: where the log goes.')
  return request


if __name__ == '__main__':
  cli.run(main, define=define_flags, first=arrival.announce, measures=True)
