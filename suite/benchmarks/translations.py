"""Translation as a task, without its model: batches, and the BLEU of evals."""

from collections.abc import Callable, Sequence
import copy
import dataclasses
from typing import Any

import numpy as np

from input_pipelines.reading import batching
from input_pipelines.text import buckets
from input_pipelines.translation import encoding
from input_pipelines.translation import read as translation
from suite.benchmark import DataSet
from suite.metrics import bleu
from suite.run import blocks, sharding
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Facts, Spec, batch_spec


@dataclasses.dataclass(frozen=True)
class PairFacts(Facts):
  """Plan of the batches, from the lengths of the sentences."""

  plan: buckets.Plan


class TranslationTask(SupervisedTask):
  """Pairs in batches of a few shapes, and translations of the test set.

  A subclass adds the model's half: `optimizer`, `partition_rules`, `loss`,
  `predict`, whose outputs are 'tokens' int32 [B, T], 'id' and 'weight', and
  `plan`.
  """

  metric: str
  weigh = staticmethod(translation.of_tokens)  # rows of training batches
  counted: int | None = None  # tokens of a pair that the data set's size counts
  quality = staticmethod(bleu.of_counts)

  def __init__(
    self, hp: Any, data: DataSet, model: Any, shapes: Sequence[buckets.Shape]
  ):
    """`shapes` are those of training batches, without padding."""
    super().__init__(hp, data, model)
    self.parts = hp.gradient_accumulation_steps
    self.reads = ('threads',)
    self.outputs = sharding.ROWS
    self._shapes = shapes
    self._share_by(1)
    self.eval_specs = [
      batch_spec(hp.eval_batch_size, source=(np.int32, length), id=np.int32)
      for length in hp.eval_lengths
    ]

  def values(self, spec):
    """See Task; sentences fill their rows, and words of a text are skewed."""
    words = Values(1, self._hp.subwords, skewed=True)
    return {
      **dict.fromkeys(translation.SIDES, words),
      'id': Values(0, self._data.eval_samples),
    }

  def fitted(self, rows):
    """See Task."""
    if 'target' not in rows:
      return rows
    weight = self.weigh(rows['target']).astype(rows['weight'].dtype)
    return {**rows, 'weight': weight}

  def contents(self, rows):
    """See Task."""
    tokens = sum(int((rows[side] != 0).sum()) for side in translation.SIDES)
    return {**super().contents(rows), 'tokens': float(tokens)}

  def plan(self, lengths: np.ndarray) -> buckets.Plan:
    """Batches of pairs of so many tokens a side, int [N, 2]."""
    raise NotImplementedError

  def train_spec(self, shape: buckets.Shape, rows: int) -> Spec:
    """The spec of a training batch of that shape, padded to so many rows."""
    fields = {
      side: (np.int32, getattr(shape, side)) for side in translation.SIDES
    }
    return batch_spec(rows, **fields)

  def shared_by(self, devices: int) -> 'TranslationTask':
    """See Task: batches are padded, so any devices train the same rows."""
    task = copy.copy(self)
    task._share_by(devices)
    return task

  def blocks(self, facts: PairFacts) -> list[blocks.Block]:
    """Epochs as long as the lengths of the pairs make them."""
    return blocks.each_epoch(
      self._hp.max_epochs,
      every=self._hp.epochs_between_evals,
      steps=facts.plan.steps,
      samples=facts.plan.pairs,
    )

  def inspect(self, directory: str) -> PairFacts:
    """See Task."""
    translation.verify(
      directory,
      train=self._data.train_samples,
      test=self._data.eval_samples,
      subwords=self._hp.subwords,
      longest=self._hp.eval_lengths[-1],
      counted=self.counted,
    )
    return self.facts_of(translation.train_lengths(directory))

  def facts_of(self, lengths: np.ndarray) -> PairFacts:
    """Plans batches by the tokens of both sides of all pairs, int [N, 2]."""
    # The rows that a step of each shape trains, without padding.
    rows = [shape.rows for shape in self._shapes]
    return PairFacts(self.plan(lengths), logged={'podium_trained_rows': rows})

  def open(self, data: Data, facts: PairFacts) -> Feed:
    """Reads all pairs, and the texts of the evals; see Task."""
    directory = data.directory
    source = translation.load(directory, 'test').source
    pairs = translation.load(directory, 'train')
    return _Feed(
      translation.vocabulary(directory),
      translation.load_texts(directory).target,
      lambda counts: {self.metric: self.quality(counts)},
      translation.train_batches(
        pairs,
        facts.plan,
        row_multiple=self._row_multiple,
        weigh=self.weigh,
        **data.training,
      ),
      lambda: translation.eval_batches(
        source,
        self._hp.eval_lengths,
        batch_size=self._hp.eval_batch_size,
        **data.share,
      ),
      data.put,
      first_step=data.first_step,
    )

  def _share_by(self, devices: int) -> None:
    """Sets the shapes of training batches, whose rows all devices share."""
    hp, fewest = self._hp, min(shape.rows for shape in self._shapes)
    self._row_multiple = devices * hp.gradient_accumulation_steps
    if fewest < self._row_multiple:
      raise ValueError(
        f'Expected {self._row_multiple} rows or more in every batch, for '
        f'{devices} devices and {hp.gradient_accumulation_steps} parts of a '
        f'step, got {fewest}: raise global_batch_size.'
      )
    self.train_specs = [
      self.train_spec(
        shape, batching.rounded_up(shape.rows, self._row_multiple)
      )
      for shape in self._shapes
    ]


class _Feed(SupervisedFeed):
  """Holds the vocabulary and the references for scoring translations.

  Each host counts the n-grams of the sentences that it fed.
  """

  def __init__(
    self,
    vocabulary: encoding.Vocabulary,
    references: Sequence[str],
    quality: Callable[[Sequence[float]], dict[str, float]],
    *args,
    **how,
  ):
    super().__init__(*args, **how)
    self._vocabulary = vocabulary
    self._references = references
    self._quality = quality

  def score(self, predictions, maker):
    """BLEU, a fraction; RuntimeError unless every sentence was seen once."""
    counts, seen = np.zeros(bleu.COUNTS), []
    for each in predictions:
      for row in np.flatnonzero(each['weight']):
        number = int(each['id'][row])
        text = self._vocabulary.sentence(each['tokens'][row])
        counts += bleu.count(self._references[number], text)
        seen.append(number)
    # Of N numbers below N that differ the sum is known, over all hosts too.
    repeats = len(seen) - len(set(seen))
    *counts, rows, numbers, repeats = maker.total(
      [*counts, len(seen), sum(seen), repeats]
    )
    wanted = len(self._references)
    if (rows, numbers, repeats) != (wanted, wanted * (wanted - 1) / 2, 0):
      raise RuntimeError(
        f'Expected a translation of each of {wanted} sentences, got {rows:.0f} '
        f'of {rows - repeats:.0f}.'
      )
    return self._quality(counts)
