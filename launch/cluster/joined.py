"""Joins the processes of a command that computes, on the platform asked for."""

from collections.abc import Mapping
import sys
from typing import Any

from absl import flags as absl_flags
import jax

from launch import profiles
from launch.aot import options
from launch.cluster import ranks
from launch.cluster.roll import Bounds
from launch.support import run_flags

FLAGS = absl_flags.FLAGS


def join(request: run_flags.Request, bounds: Bounds) -> None:
  """Joins the other processes; ValueError where that is not what was asked."""
  for kept in profiles.apply(request.profile):
    print(kept, file=sys.stderr)
  options.require_known_flags()
  ranks.initialize(bounds, FLAGS.expect_devices)
  ranks.require_platform(FLAGS.platform)
  _require_options(request.profile.compiler_options)
  ranks.keep_compiled(FLAGS.compile_cache)


def _require_options(wanted: Mapping[str, Any]) -> None:
  """ValueError unless the compiler here takes these options."""
  if not wanted:
    return
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options=dict(wanted))
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(
      f'The compiler of {jax.default_backend()} refuses its options: '
      f'{str(error).partition(": ")[2]}'
    ) from None
