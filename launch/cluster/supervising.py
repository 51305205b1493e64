"""The job of a run's supervisor, if it has one, from the flags.

A supervisor needs neither JAX nor a benchmark's task, and imports none of them.
"""

from collections.abc import Callable
import contextlib
import dataclasses

from absl import flags as absl_flags

from launch.cluster import alike, attempts, hosts, locks, supervisor
from launch.cluster.roll import Bounds
from launch.support import run_flags
from suite import files

FLAGS = absl_flags.FLAGS


def job(request: Callable[[], run_flags.Request]) -> supervisor.Job | None:
  """The job of this process; None: it makes the run itself.

  `request` makes the request from the flags, once the ranks know each other.
  """
  if supervisor.is_worker():
    return None
  place = hosts.place()
  if not place and not FLAGS.watchdog_seconds:
    return None
  made = supervisor.Job(
    place or supervisor.alone(),
    bounds(),
    lambda: alike.settings(request()),
    FLAGS.output,
    '' if FLAGS.rehearse else files.log_path(FLAGS.output, FLAGS.run),
    hold=held,
  )
  if FLAGS.rehearse or FLAGS.resume:
    return made
  return dataclasses.replace(
    made, set_aside=lambda: attempts.set_aside(FLAGS.output, FLAGS.run)
  )


def held() -> contextlib.AbstractContextManager[int | None]:
  """Holds the run of the flags against other processes.

  Of all that make it one does so: the first supervisor, or who has none. Gives
  the descriptor of the lock, which a worker inherits.
  """
  place = hosts.place()
  first = place is None or place.process == 0
  if FLAGS.rehearse or supervisor.is_worker() or not first:
    return contextlib.nullcontext()
  return locks.of_run(FLAGS.output, FLAGS.run)


def bounds() -> Bounds:
  """Time limits of ranks that wait for each other, as the flags have them."""
  watched = FLAGS.watchdog_seconds or Bounds.watchdog
  return Bounds(FLAGS.join_seconds, FLAGS.startup_seconds, watched)
