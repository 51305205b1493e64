"""Tests that every benchmark's table of its specification shares.

A table states each number that the rules or the reference fix. None is taken
from the code under test.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any

from suite import benchmark, hparams
from suite.hparams import Division


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Facts of a benchmark by the rules and the reference."""

  name: str
  runs: int
  dropped: int
  # Size -> (ruleset, bounds by metric, (data set, train and eval samples),
  # minutes of startup that are not timed in Closed).
  sizes: Mapping[str, tuple]
  # Hyperparameter -> value of the reference: those that Closed fixes, and those
  # that it lets submitters choose.
  fixed: Mapping[str, Any]
  tunable: Mapping[str, Any]
  # Chosen to suit the system; the specification says nothing of their value.
  of_the_system: Sequence[str]
  # Size -> what it changes of the above.
  changed: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  # Hyperparameters, as flags give them, that Closed allows and that it refuses.
  allowed: Sequence[Mapping[str, str]]
  refused: Sequence[Mapping[str, str]]
  logged: Mapping[str, Any]  # official keys -> values of the reference


class SpecTest:
  """Mixed into a test case with a `table`."""

  table: Table

  def size(self, name='reference'):
    return benchmark.get(self.table.name).size(name)

  def task(self, **changes):
    return _task(self.table.name, **changes)

  def override(self, changes):
    return hparams.override(self.size().hparams, changes, Division.CLOSED)

  def test_runs_and_sizes(self):
    found = benchmark.get(self.table.name)
    self.assertEqual(found.name, self.table.name)
    self.assertEqual(found.runs, self.table.runs)
    self.assertEqual(found.dropped, self.table.dropped)
    self.assertEqual({*found.sizes} - {*self.table.sizes}, {'tiny'})
    for name, expected in self.table.sizes.items():
      size = self.size(name)
      self.assertEqual(
        (
          size.ruleset,
          size.target.as_dict(),
          dataclasses.astuple(size.data),
          size.startup_allowance(Division.CLOSED) / 60,
        ),
        expected,
        name,
      )

  def test_every_hyperparameter(self):
    for name in self.table.sizes:
      expected = (
        self.table.fixed | self.table.tunable | self.table.changed.get(name, {})
      )
      declared = hparams.declared(self.size(name).hparams)
      found = {d.name: d.value for d in declared}
      self.assertEqual({*found} - {*expected}, {*self.table.of_the_system})
      self.assertEqual({k: found[k] for k in expected}, expected, name)

  def test_which_hyperparameters_closed_fixes(self):
    declared = hparams.declared(self.size().hparams)
    fixed = {d.name for d in declared if not d.tunable}
    self.assertEqual(fixed, {*self.table.fixed})

  def test_what_closed_allows_and_refuses(self):
    for changes in self.table.allowed:
      with self.subTest(f'allows {changes}'):
        self.override(changes)
    for changes in self.table.refused:
      with (
        self.subTest(f'refuses {changes}'),
        self.assertRaises(ValueError),
      ):
        self.override(changes)

  def test_the_log(self):
    logged = hparams.logged(self.size().hparams)
    official = {k: v for k, v in logged.items() if not k.startswith('podium_')}
    self.assertEqual(official, self.table.logged)


@functools.cache
def _task(name, **changes):
  found = benchmark.get(name)
  size = found.size('reference')
  return found.task(dataclasses.replace(size.hparams, **changes), size.data)


def equations(jaxpr):
  """Every equation of a jaxpr and of those inside it, as they are computed."""
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from equations(inner)
