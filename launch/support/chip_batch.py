"""Batches by what a chip has of them, as commands about speed take them."""

from collections.abc import Mapping
from typing import Any

from suite import hparams as hparams_lib


def changes(
  hp: Mapping[str, str], hparams: Any, per_chip: int | None, *, chips: int,
  ways: int,
) -> dict[str, str]:  # fmt: skip
  """Hyperparameters to change, by name, so that the batches fit the devices.

  Args:
    hp: those that were asked for, as text.
    hparams: with them applied, or not.
    per_chip: samples of a train step on each chip; None: as it is.
    chips: how many there are.
    ways: devices that a batch is split over. An eval batch that was not asked
      for is rounded up to a multiple of them.

  Raises:
    ValueError: for a batch that is given twice.
  """
  found = dict(hp)
  if per_chip:
    name = hparams_lib.batch(hparams).name
    if name in hp:
      raise ValueError(
        f'--per_chip_batch and --hp={name} say the same: give one.'
      )
    found[name] = str(per_chip * chips)
  if 'eval_batch_size' not in hp:
    rows = hparams.eval_batch_size
    found['eval_batch_size'] = str(-(-rows // ways) * ways)
  return found
