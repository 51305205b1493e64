"""Checks the places of evals: as declared, or else evenly spaced.

Hyperparameters declare them, as fields or properties: `epochs_between_evals`,
whole or a fraction, with `eval_offset` epochs before the first; or
`samples_between_evals`; `place_key` is the log's key of these places where the
rules want them under that of epochs. `first_eval`, in the same unit, is the
place of a first eval that is further away than the others. Places by samples
and by fractions may be rounded to whole batches, eval after eval.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import statistics

from suite import hparams as hparams_lib
from suite.files import is_number
from suite.results.audit.claim import Claim
from suite.results.audit.findings import Finding
from suite.results.audit.log import Log
from suite.results.audit.quality import Eval

_RULE = 'eval cadence'
_WORDS = {'epoch_num': 'epochs', 'samples_count': 'samples'}


@dataclasses.dataclass(frozen=True)
class Cadence:
  """Declared places of evals."""

  unit: str
  every: float
  first: float | None  # None: anywhere up to `every`
  slack: float = 0.0  # by which rounding may move each place further


def declared(claim: Claim) -> Cadence | None:
  """The cadence that a log's hyperparameters declare; None: they do not."""
  if claim.size is None or (not claim.closed and not claim.ours):
    return None
  hparams = claim.hparams
  samples = getattr(hparams, 'samples_between_evals', None)
  epochs = getattr(hparams, 'epochs_between_evals', None)
  first = getattr(hparams, 'first_eval', None)
  batch = float(hparams_lib.batch(hparams).value)
  if is_number(samples) and samples > 0:
    return Cadence('samples_count', samples, first or samples, batch)
  if not is_number(epochs) or epochs <= 0:
    return None
  if epochs != round(epochs):
    if claim.epochs_before and not claim.ours:
      return None  # others' logs count from 0, from 1, or evals
    share = batch / claim.size.data.train_samples
    place = claim.epochs_before + (first or epochs)
    return Cadence('epoch_num', epochs, place, share)
  offset = getattr(hparams, 'eval_offset', None)
  if first is None and claim.ours and is_number(offset):
    first = offset + 1
  return Cadence('epoch_num', epochs, first)


def check(log: Log, claim: Claim, found: Sequence[Eval]) -> Iterator[Finding]:
  """Finds the first eval that is out of place; others may place theirs."""
  make = log.error if claim.ours else log.warning
  if claim.size is None:
    yield from _spacing(log, found)
    return
  cadence = declared(claim)
  if cadence is None or not found:
    return
  words = _WORDS[cadence.unit]
  units = cadence.unit, getattr(claim.hparams, 'place_key', cadence.unit)
  first = cadence.first
  if first is None:
    first = found[0].at
    if first is None or not 1 <= first <= cadence.every:
      text = f'expected the first eval after 1 to {cadence.every} {words}'
      yield make(found[0].line, f'{text}, got {first}', _RULE)
      return
  for number, one in enumerate(found):
    expected = first + number * cadence.every
    early = not claim.ours and one is found[-1] and number
    if early and one.at is not None and one.at < expected:
      return  # others score once more where their budget of epochs ends
    slack = 1e-6 + expected / cadence.every * cadence.slack
    if one.unit not in units or abs(one.at - expected) > slack:
      text = f'expected eval {number + 1} after {expected:g} {words}'
      yield make(one.line, f'{text}, got {one.at}', _RULE)
      return


def _spacing(log: Log, found: Sequence[Eval]) -> Iterator[Finding]:
  """Evals stand at even distances, the first and the last aside."""
  places = sorted({one.at for one in found if one.at is not None})
  steps = [b - a for a, b in itertools.pairwise(places)][1:-1]
  if len(steps) < 3 or len({one.unit for one in found}) > 1:
    return
  usual = statistics.median(steps)
  for number, step in enumerate(steps):
    # Where a batch does not divide the distance, evals round to whole ones.
    if not 0.5 * usual <= step <= 1.5 * usual:
      place = places[number + 2]
      line = next(one.line for one in found if one.at == place)
      text = f'expected an eval about every {usual:g} as before or after'
      yield log.warning(line, f'{text}, got {step:g}', _RULE)
      return
