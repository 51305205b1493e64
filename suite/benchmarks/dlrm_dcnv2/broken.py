"""Variants of DLRM-DCNv2 that are broken on purpose, which miss its target."""

from suite.benchmarks import broken as variants

VARIANTS = {
  **variants.usual('base_learning_rate'),
}
