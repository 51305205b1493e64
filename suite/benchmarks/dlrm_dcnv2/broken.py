"""Variants of DLRM-DCNv2 that are broken on purpose, which miss its target."""

import jax.numpy as jnp

from models import dlrm
from models.parts.tables import Tables
from suite.benchmarks.dlrm.broken import SHARED, patched


def _first_of_each(pooled):
  """Takes the first row that a sample names of a table, not their sum."""

  def broken(self, rows, *, large):
    lookups = [self.lookups[t] for t in self._numbers(large)]
    first = [sum(lookups[:n]) for n in range(len(lookups))]
    return jnp.stack([rows[:, n] for n in first], axis=1)

  return broken


VARIANTS = {
  **SHARED,
  'no cross network': patched(
    dlrm.Cross, '__call__', lambda call: lambda self, first: first
  ),
  'one row of each bag': patched(Tables, '_pooled', _first_of_each),
}
