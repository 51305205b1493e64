"""Flags of an entrypoint for the tests that call it in their own process."""

from types import ModuleType

from absl import flags


def define(module: ModuleType) -> list[str]:
  """Defines the flags of `launch.<name>`; returns the names that are new."""
  before = set(flags.FLAGS)
  module.define_flags()
  return sorted(set(flags.FLAGS) - before)


def remove(names: list[str]) -> None:
  """Removes them, as another entrypoint may have flags of the same name."""
  flags.FLAGS.remove_flag_values(names)
