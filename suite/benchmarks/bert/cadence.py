"""Distance of BERT's evals: by a formula of the rules, in samples."""

from typing import Any


def samples_between_evals(hp: Any) -> int:
  """A share of what a run is expected to take, rounded down.

  From round v1.0 on: 0.05 (230.23 batch + 3,000,000), to multiples of 25,000.
  """
  expected = hp.eval_slope * hp.global_batch_size + hp.eval_offset
  multiples = int(hp.eval_share * expected // hp.eval_multiple)
  return max(1, multiples) * hp.eval_multiple
