"""RNN-T as a task: the transducer's loss, LAMB, the errors of what it hears."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax

from input_pipelines.audio import log_mel
from input_pipelines.librispeech import RATE, order
from input_pipelines.librispeech import read as librispeech
from input_pipelines.reading import dataset
from input_pipelines.text import pieces
from models import rnnt
from models.parts.functional import Functional
from models.parts.spec_augment import Masks
from suite.benchmark import DataSet
from suite.benchmarks.rnnt import METRIC, Hparams
from suite.metrics import wer
from suite.run import blocks, lamb, sharding
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, State, batch_spec


@dataclasses.dataclass(frozen=True)
class SpeechFacts(Facts):
  """Plan of the batches, and lengths of the utterances of the evals."""

  plan: order.Plan
  evaluated: np.ndarray  # int64 [N, 2], samples and symbols


class RNNTTask(SupervisedTask):
  """Texts of speech; the word error rate of those that it hears."""

  reads = ('threads',)
  outputs = sharding.ROWS
  tensors = rnnt.TENSORS
  partition_rules = rnnt.PARTITION_RULES

  def __init__(self, hp: Hparams, data: DataSet):
    size = rnnt.Size(
      features=hp.splice * hp.bands,
      symbols=hp.pieces,
      width=hp.encoder_width,
      before=hp.layers_before,
      after=hp.layers_after,
      stack=hp.stack,
      prediction=hp.prediction_width,
      prediction_layers=hp.prediction_layers,
      joint=hp.joint_width,
    )
    start = rnnt.Start(hp.start_scale, hp.forget_bias)
    compute = rnnt.Compute(
      jnp.dtype(hp.compute_dtype),
      hp.encoder_dropout,
      hp.prediction_dropout,
      hp.joint_dropout,
      hp.remat,
      hp.unroll,
      hp.lstm_kernel,
      hp.joint_block,
    )
    model = Functional.of(
      lambda rngs: rnnt.RNNT(size, start=start, compute=compute, rngs=rngs)
    )
    super().__init__(hp, data, model)
    self._front_end = log_mel.FrontEnd(rate=RATE, bands=hp.bands)
    self._masks = Masks(
      hp.freq_masks, hp.freq_min, hp.freq_max,
      hp.time_masks, hp.time_min, hp.time_max,
    )  # fmt: skip
    self._shapes = [
      order.Shape(frames, symbols)
      for frames, symbols in zip(hp.train_frames, hp.train_symbols, strict=True)
    ]
    self.parts = hp.gradient_accumulation_steps
    self.average = optax.constant_schedule(hp.ema_factor)
    self.optimizer = self._optimizer()
    self.train_specs = [
      batch_spec(
        hp.global_batch_size,
        speech=(np.float32, shape.frames, hp.bands),
        frames=np.int32,
        symbols=(np.int32, shape.symbols),
        count=np.int32,
      )
      for shape in self._shapes
    ]
    self.eval_specs = [
      batch_spec(
        hp.eval_batch_size,
        speech=(np.float32, frames, hp.bands),
        frames=np.int32,
        id=np.int32,
      )
      for frames in hp.eval_frames
    ]

  def values(self, spec):
    """See Task; utterances fill the half of their shape, or more."""
    longest = {'frames': spec['speech'].shape[1]}
    if 'symbols' in spec:
      longest['count'] = spec['symbols'].shape[1]
    return {
      **{
        name: Values(-(-most // 2), most + 1) for name, most in longest.items()
      },
      'symbols': Values(0, self._hp.pieces),
      'id': Values(0, self._data.eval_samples),
    }

  def loss(self, params, stats, batch, key):
    """Mean over utterances of minus the log-chance of their texts; see Task.

    Without a key nothing is masked or dropped.
    """
    speech = batch['speech']
    if key is not None:
      mask_key, key = jax.random.split(key)
      speech = self._masks(speech, batch['frames'], mask_key)
    speech, lengths = self._spliced(speech, batch['frames'])

    def losses(rows, params, key):
      if key is not None and self.layout.ways > 1:
        key = jax.random.fold_in(key, jax.lax.axis_index(sharding.DATA))
      return self._model.apply(params, stats, *rows, drop_key=key)[0]

    rows = (speech, lengths, batch['symbols'], batch['count'])
    found = self._by_rows(losses)(rows, params, key)
    weight = batch['weight']
    mean = jnp.sum(found * weight) / jnp.maximum(weight.sum(), 1.0)
    return mean, (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> symbols int32 [B, S], how many of them, utterances and weights."""
    hp = self._hp
    rows = self._spliced(batch['speech'], batch['frames'])

    def transcribe(rows, params, stats):
      return self._model.merged(params, stats).transcribe(
        *rows, per_frame=hp.symbols_per_frame, most=hp.most_symbols
      )

    symbols, count = self._by_rows(transcribe)(rows, state.params, state.stats)
    kept = {name: batch[name] for name in ('id', 'weight')}
    return kept | {'symbols': symbols, 'count': count}

  def blocks(self, facts) -> list[blocks.Block]:
    """Epochs of whole batches; see Task."""
    del facts
    hp = self._hp
    return blocks.each_epoch(
      hp.max_epochs,
      every=hp.epochs_between_evals,
      steps=self._steps,
      samples=hp.train_samples,
    )

  def inspect(self, directory: str) -> SpeechFacts:
    """See Task."""
    librispeech.verify(
      directory,
      splits={
        librispeech.TRAIN: self._data.train_samples,
        librispeech.EVAL: self._data.eval_samples,
      },
      vocabulary_size=self._hp.pieces,
    )
    evaluated = librispeech.lengths(directory, librispeech.EVAL)
    longest = self._front_end.frames(evaluated[:, 0].max())
    if longest > self._hp.eval_frames[-1]:
      raise ValueError(
        f'Expected eval_frames up to {longest}, as the longest utterance of '
        f'the evals has, got {self._hp.eval_frames[-1]}.'
      )
    plan = self.plan(librispeech.lengths(directory, librispeech.TRAIN))
    return SpeechFacts(plan, evaluated)

  def plan(self, lengths: np.ndarray) -> order.Plan:
    """Batches of utterances with so many samples and symbols, int [N, 2]."""
    hp = self._hp
    plan = order.Plan(
      *lengths.T,
      self._shapes,
      batch_size=hp.global_batch_size,
      most_samples=hp.max_duration * RATE,
      bucket_count=hp.num_buckets,
      speeds=(hp.speed_min, hp.speed_max),
      by_heard=hp.bucket_by_heard,
      front_end=self._front_end,
    )
    if plan.steps != self._steps:
      raise ValueError(
        f'Expected {plan.steps} batches of {hp.global_batch_size}, as the '
        f'{plan.kept} utterances of {hp.max_duration} seconds or less make, '
        f'got {self._steps} of {hp.utterances}: use --hp=utterances='
        f'{plan.kept}.'
      )
    return plan

  def open(self, data: Data, facts: SpeechFacts) -> Feed:
    """Reads the texts of the evals; see Task."""
    hp, directory = self._hp, data.directory
    train, evaluated = (
      dataset.Split(directory, split) for split in librispeech.SPLITS
    )
    return _Feed(
      librispeech.vocabulary(directory),
      librispeech.texts(directory),
      librispeech.train_batches(
        train,
        facts.plan,
        self._front_end,
        batch_size=hp.global_batch_size,
        **data.training,
      ),
      lambda: librispeech.eval_batches(
        evaluated,
        facts.evaluated,
        hp.eval_frames,
        self._front_end,
        batch_size=hp.eval_batch_size,
        threads=data.threads,
        **data.share,
      ),
      data.put,
      first_step=data.first_step,
    )

  @property
  def _steps(self) -> int:
    return self._hp.utterances // self._hp.global_batch_size

  def _spliced(self, speech, frames) -> tuple[jax.Array, jax.Array]:
    count = self._hp.splice
    return rnnt.spliced(speech, count), rnnt.spliced_lengths(frames, count)

  def _optimizer(self) -> optax.GradientTransformation:
    """LAMB without exceptions: biases are decayed and adapted too."""
    hp = self._hp
    schedule = epoch_schedule(
      base=hp.base_learning_rate,
      least=hp.least_learning_rate,
      gamma=hp.decay_gamma if hp.alt_decay else 1.0,
      warmup_epochs=hp.warmup_epochs if hp.alt_warmup else 0,
      hold_epochs=hp.hold_epochs,
      steps_per_epoch=self._steps,
    )
    return {'lamb': lamb.lamb}[hp.opt_name](
      schedule,
      beta_1=hp.beta_1,
      beta_2=hp.beta_2,
      epsilon=hp.epsilon,
      weight_decay=hp.weight_decay,
      clip_norm=hp.clip_norm,
    )

  def _by_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(rows, *others)`, each device for its own rows alone.

    Else the loops over blocks of frames would add up gradients of all devices
    in each turn, and those over symbols ask all whether one is left.
    """
    if self.layout.ways == 1:
      return function

    def by_rows(rows, *others):
      return jax.shard_map(
        function,
        mesh=self.layout.mesh,
        in_specs=(sharding.ROWS, *[PartitionSpec()] * len(others)),
        out_specs=sharding.ROWS,
        check_vma=False,
      )(rows, *others)

    return by_rows


class _Feed(SupervisedFeed):
  """Holds the vocabulary and the texts for counting the errors.

  Each host counts those of the utterances that it fed.
  """

  def __init__(
    self, words: pieces.Vocabulary, texts: Sequence[str], *args, **how
  ):
    super().__init__(*args, **how)
    self._words, self._texts = words, texts

  def score(self, predictions, maker):
    """Words heard wrongly over all; RuntimeError unless each was heard once."""
    errors = words = 0
    seen = []
    for each in predictions:
      for row in np.flatnonzero(each['weight']):
        number = int(each['id'][row])
        heard = self._words.decode(each['symbols'][row, : each['count'][row]])
        of_row, of_text = wer.count(self._texts[number], heard)
        errors, words = errors + of_row, words + of_text
        seen.append(number)
    # Of N numbers below N that differ the sum is known, over all hosts too.
    repeats = len(seen) - len(set(seen))
    errors, words, rows, numbers, repeats = maker.total(
      [errors, words, len(seen), sum(seen), repeats]
    )
    wanted = len(self._texts)
    if (rows, numbers, repeats) != (wanted, wanted * (wanted - 1) / 2, 0):
      raise RuntimeError(
        f'Expected each of {wanted} utterances to be heard once, got '
        f'{rows:.0f} of {rows - repeats:.0f}.'
      )
    return {METRIC: float(errors / words)}


def epoch_schedule(
  *,
  base: float,
  least: float,
  gamma: float,
  warmup_epochs: int,
  hold_epochs: int,
  steps_per_epoch: int,
) -> optax.Schedule:
  """A line up to `base`, which holds, then down by a factor an epoch.

  Updates and epochs count from 1: the one before the last of the warmup has the
  rate `base` already, and so have the last of the epochs that hold it. The rate
  is never below `least`. Source: lr_policy in mlcommons/training,
  retired_benchmarks/rnnt/pytorch/common/optimizers.py.
  """
  warmup = warmup_epochs * steps_per_epoch
  hold = warmup + hold_epochs * steps_per_epoch

  def schedule(count):
    epoch = jnp.asarray(count) // steps_per_epoch + 1
    step = jnp.asarray(count, jnp.float32) + 1
    decayed = gamma ** (epoch - warmup_epochs - hold_epochs).astype(jnp.float32)
    share = jnp.where(step < hold, 1.0, decayed)
    share = jnp.where(step < warmup, (step + 1) / (warmup + 1), share)
    return jnp.maximum(share * base, least)

  return schedule


make_task = RNNTTask
