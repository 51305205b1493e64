"""DLRM as it is, and variants broken in ways that its target must catch."""

from suite.benchmarks import broken as variants

VARIANTS = {
  **variants.usual('base_learning_rate'),
}
