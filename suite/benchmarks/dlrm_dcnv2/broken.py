"""Variants of DLRM-DCNv2 that are broken on purpose, which miss its target."""

from models import dlrm
from suite.benchmarks.dlrm.broken import SHARED, patched

VARIANTS = {
  **SHARED,
  'no cross network': patched(
    dlrm.Cross, '__call__', lambda call: lambda self, first: first
  ),
}
