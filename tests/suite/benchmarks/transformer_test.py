"""Tests of the Transformer benchmark; its table is in transformer_spec_test."""

import collections
import contextlib
import dataclasses
import functools
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from input_pipelines.text import subwords
from input_pipelines.translation import corpus, prepare
from input_pipelines.translation import read as translation
from input_pipelines.writing import recipe, writer
from models import transformer as model
from suite import benchmark, hparams
from suite.benchmarks import transformer
from suite.benchmarks.transformer.task import TransformerTask
from suite.clock import Clock
from suite.hparams import Division
from suite.metrics import bleu
from suite.results import audit
from suite.run import loop, program, sharding
from suite.run.feed import Data
from tests.suite.run import fake_task

REFERENCE = transformer.BENCHMARK.sizes['reference']
TINY = transformer.BENCHMARK.sizes['tiny']
WORDS = ['the', 'dog', 'sees', 'a', 'small', 'cat', 'and', '3.5', 'Hunde,',
         'die', 'Katze', 'sieht', 'Größe']  # fmt: skip
PAIRS, SENTENCES = 120, 9
DATA = benchmark.DataSet('pairs', train_samples=PAIRS, eval_samples=SENTENCES)


def setUpModule():
  global _folder, DIRECTORY, SMALL
  _folder = tempfile.TemporaryDirectory()
  DIRECTORY = _write(_folder.name)
  SMALL = dataclasses.replace(
    TINY.hparams,
    subwords=translation.facts(DIRECTORY)['subwords'],
    global_batch_size=512,
    max_sequence_length=16,
    bucket_first=9,
    bucket_scale=2.0,
    packed_row_length=32,
    eval_batch_size=8,
    eval_lengths=(4, 48),
    max_epochs=2,
    layers=1,
    width=16,
    heads=2,
    ffn=32,
    extra_length=3,
  )


def tearDownModule():
  _folder.cleanup()


def _write(data_dir):
  """A small data set of random words; texts of 0 to 14 of them."""
  draws = np.random.default_rng(5)

  def lines(count):
    return [
      ' '.join(draws.choice(WORDS, draws.integers(15))) for _ in range(count)
    ]

  texts = {
    split: corpus.Texts(lines(count), lines(count))
    for split, count in (('train', PAIRS), ('test', SENTENCES))
  }
  directory = recipe.place(data_dir, 'pairs', '1.0.0')
  with writer.begin(directory, {}) as unfinished:
    return prepare.write(
      unfinished,
      texts,
      subwords.build(subwords.count([' '.join(WORDS)]), size=0, min_count=1),
      name='pairs',
      description='Random words.',
      shards={'train': 1, 'test': 1},
      order=recipe.Order(data_dir, ''),
    )


def _task(**changes):
  return TransformerTask(dataclasses.replace(SMALL, **changes), DATA)


def _blocks(task):
  return task.blocks(task.inspect(DIRECTORY))


def _data(clock, mesh, **how):
  put = lambda rows: sharding.put_rows(rows, mesh)  # noqa: E731
  return Data(clock, DIRECTORY, 7, put, **how)


def _batches(task, count, **how):
  """The first host batches of a run."""
  clock = Clock()
  clock.start()
  data = Data(clock, DIRECTORY, 7, lambda rows: rows, **how)
  feed = task.open(data, task.inspect(DIRECTORY))
  block = dataclasses.replace(_blocks(task)[0], steps=count)
  found = list(feed.train_block(block, None, None))
  feed.close()
  return found


def _override(changes, size=REFERENCE):
  return hparams.override(size.hparams, changes, Division.CLOSED)


class RulesTest(parameterized.TestCase):
  @parameterized.parameters(
    (1, [(512, 7), (455, 8), (409, 9)], (15, 256)),
    (8, [(512, 7), (456, 8), (416, 9)], (16, 256)),
  )
  def test_any_devices_train_the_rows_of_the_reference(
    self, devices, first, last
  ):
    # 4096 tokens by the end of the bucket, one more than its longest pair.
    task = TransformerTask(REFERENCE.hparams, REFERENCE.data)
    task = task.shared_by(devices)
    shapes = [spec['source'].shape for spec in task.train_specs]
    self.assertEqual((shapes[:3], shapes[-1]), (first, last))
    targets = {spec['target'].shape for spec in task.train_specs}
    self.assertEqual(targets, set(shapes))
    trained = task.facts_of(np.full((9, 2), 9)).logged['podium_trained_rows']
    self.assertLen(trained, len(shapes))
    self.assertEqual((trained[:3], trained[-1]), ([512, 455, 409], 15))

  def test_a_batch_with_fewer_rows_than_devices_is_refused(self):
    task = TransformerTask(REFERENCE.hparams, REFERENCE.data)
    with self.assertRaisesRegex(
      ValueError, '16 rows or more .*, got 15: raise'
    ):
      task.shared_by(16)

  def test_packed_rows_are_as_many_as_the_tokens_fill(self):
    # Round v0.7: 2048 rows of 256.
    hp = _override({'batching': 'packing', 'global_batch_size': '524288'})
    (spec,) = TransformerTask(hp, REFERENCE.data).train_specs
    self.assertEqual(spec['source_segment'].shape, (2048, 256))

  @parameterized.parameters(
    ({'compute_dtype': 'float16'}, "float32, bfloat16, got 'float16'"),
    ({'eval_lengths': ()}, 'eval_lengths to be one length or more'),
    ({'max_epochs': 0}, 'max_epochs is 0'),
    (
      {'batching': 'packing', 'packed_row_length': 15},
      'row_length to be .*got 15',
    ),
    (
      {'batching': 'packing', 'global_batch_size': 255},
      'of 256 tokens or more',
    ),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(SMALL, **changes)
    with self.assertRaisesRegex(ValueError, message):
      transformer.BENCHMARK.task(hp, DATA)


class EpochTest(parameterized.TestCase):
  def test_a_sentence_to_translate_that_is_too_long_is_refused_at_once(self):
    with self.assertRaisesRegex(ValueError, 'of 12 tokens or fewer'):
      _task(eval_lengths=(4, 12)).inspect(DIRECTORY)

  @parameterized.parameters('buckets', 'packing')
  def test_an_epoch_trains_on_every_pair_that_is_short_enough(self, batching):
    task = _task(batching=batching)
    block = _blocks(task)[0]
    lengths = translation.train_lengths(DIRECTORY)
    short = lengths[lengths.max(axis=1) <= 16]
    self.assertEqual(block.samples, len(short))
    self.assertLess(len(short), PAIRS)
    tokens = sum(batch['weight'].sum() for batch in _batches(task, block.steps))
    self.assertEqual(tokens, short[:, 1].sum())

  def test_a_run_that_goes_on_gets_the_batches_that_it_has_not_seen(self):
    task = _task()
    whole = _batches(task, 6)
    rest = _batches(_task(), 2, position={'step': 4})
    for batch, expected in zip(rest, whole[4:], strict=True):
      jax.tree.map(np.testing.assert_array_equal, batch, expected)

  @parameterized.parameters('buckets', 'packing')
  def test_eight_devices_train_what_one_trains(self, batching):
    hp = dataclasses.replace(SMALL, row_multiple=1, batching=batching)
    task = TransformerTask(dataclasses.replace(hp, global_batch_size=550), DATA)
    batches = []
    for each in (task, task.shared_by(8)):
      batches.append(_batches(each, _blocks(each)[0].steps))
    self.assertLen(batches[1], len(batches[0]))
    for alone, shared in zip(*batches, strict=True):
      rows = len(alone['weight'])
      self.assertEqual(len(shared['weight']), -(-rows // 8) * 8)
      for name, values in shared.items():
        np.testing.assert_array_equal(values[:rows], alone[name])
        self.assertFalse(values[rows:].any())

  def test_truncating_trains_on_all_pairs(self):
    block = _blocks(_task(length_method='truncate'))[0]
    self.assertEqual(block.samples, PAIRS)


class LossTest(parameterized.TestCase):
  @functools.cached_property
  def _jitted(self):
    return jax.jit(lambda task, *args: task.loss(*args)[0], static_argnums=0)

  def _loss(self, task, batch, params):
    return float(self._jitted(task, params, {}, batch, None))

  def test_it_is_the_mean_over_the_tokens_of_the_target(self):
    task = _task()
    params, _ = task.init_model(jax.random.key(0))
    batch = _batches(task, 1)[0]

    @jax.jit
    def losses(source, target):
      logits = task._model.merged(params, {})(source, target)
      return model.token_losses(logits, target, smoothing=0.1)

    each = losses(batch['source'], batch['target'])
    is_token = batch['target'] > 0
    self.assertAlmostEqual(
      self._loss(task, batch, params), float(each[is_token].mean()), places=5
    )
    # Rows of padding change nothing.
    padded = {
      name: np.concatenate([rows, np.zeros_like(rows)])
      for name, rows in batch.items()
    }
    self.assertAlmostEqual(
      self._loss(task, padded, params),
      self._loss(task, batch, params),
      places=5,
    )

  def test_pairs_that_share_rows_have_the_loss_that_they_have_alone(self):
    packed, alone = _task(batching='packing'), _task()
    params, _ = packed.init_model(jax.random.key(0))

    def total(task):
      batches = _batches(task, _blocks(task)[0].steps)
      return sum(
        self._loss(task, batch, params) * batch['weight'].sum()
        for batch in batches
      )

    self.assertAlmostEqual(total(packed) / total(alone), 1, places=4)

  def test_a_layout_changes_no_result_but_for_rounding(self):
    losses = self._trained()
    self.assertLess(losses[-1], losses[0])
    for how in ({'parts': 2}, {'parts': 2, 'axis': 2, 'spread': 'parameters'}):
      with self.subTest(str(how)):
        found = self._trained(**how)
        np.testing.assert_allclose(found, losses, rtol=1e-4)

  def _trained(self, parts=1, spread='none', axis=1):
    """Losses of three steps without dropout; a batch has padded rows."""
    hp = dataclasses.replace(
      SMALL,
      dropout=0.0,
      width=64,
      ffn=512,
      bucket_first=30,  # one shape
      row_multiple=16,
      subword_multiple=2,
      base_learning_rate=0.05,
      warmup_steps=2,
    )
    batches = _batches(TransformerTask(hp, DATA), 8)
    batches = [*batches[:2], batches[-1]]
    hp = dataclasses.replace(hp, gradient_accumulation_steps=parts)
    task, mesh = TransformerTask(hp, DATA), sharding.make_mesh(axis)
    build = program.Build(spread=spread)
    program.check(task, mesh, build)
    lowered = program.lower(task, mesh, build)
    (step,) = [each.compile() for each in lowered['train_step']]
    state, losses = lowered['init'].compile()(np.uint32(3)), []
    for batch in batches:
      state, metrics = step(state, sharding.put_rows(batch, mesh))
      losses.append(float(metrics['loss']))
    return losses


class ScoreTest(parameterized.TestCase):
  def predictions(self, texts, *, batches=2):
    """As if beam search had found these; rows of padding among them."""
    words = translation.vocabulary(DIRECTORY)
    tokens = np.zeros((batches * 8, 64), np.int32)
    for row, text in enumerate(texts):
      found = [*words.encode(text), subwords.EOS]
      tokens[row, : len(found)] = found
    order = np.random.default_rng(0).permutation(len(tokens))
    whole = {
      'tokens': tokens,
      'id': np.arange(len(tokens)),
      'weight': (np.arange(len(tokens)) < len(texts)).astype(np.float32),
    }
    shuffled = {name: rows[order] for name, rows in whole.items()}
    return [
      {name: rows[i * 8 : (i + 1) * 8] for name, rows in shuffled.items()}
      for i in range(batches)
    ]

  def score(self, *hosts):
    """Of one eval that hosts share; each has some of the batches."""
    clock = Clock()
    clock.start()
    task = _task()
    data = _data(clock, sharding.make_mesh())
    feed = task.open(data, task.inspect(DIRECTORY))
    feed.close()
    told = []
    for predictions in hosts:
      maker = mock.Mock(total=lambda numbers: told.append(numbers) or numbers)
      with contextlib.suppress(RuntimeError):  # one host alone lacks some
        feed.score(iter(predictions), maker)
    whole = mock.Mock(total=lambda numbers: np.sum(told, axis=0))
    return feed.score(iter(()), whole)

  def test_it_is_bleu_of_the_texts_as_they_were(self):
    texts = translation.load_texts(DIRECTORY).target
    self.assertEqual(self.score(self.predictions(texts)), {'BLEU': 1.0})
    changed = ['die Katze sieht a small cat', *texts[1:]]
    found = self.score(self.predictions(changed))['BLEU']
    self.assertEqual(found, bleu.bleu(texts, changed))
    self.assertBetween(found, 0.3, 0.99)

  def test_hosts_that_share_the_sentences_find_the_same(self):
    texts = translation.load_texts(DIRECTORY).target
    changed = ['die Katze sieht a small cat', *texts[1:]]
    first, second = self.predictions(changed)
    found = self.score([first], [second])
    self.assertEqual(found, {'BLEU': bleu.bleu(texts, changed)})

  def test_a_sentence_that_is_missing_or_there_twice_is_an_error(self):
    texts = translation.load_texts(DIRECTORY).target
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 8 of 8'):
      self.score(self.predictions(texts[:-1]))
    twice = self.predictions(texts)
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 18 of 9'):
      self.score([*twice, *twice])
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 18 of 18'):
      self.score(twice, twice)
    # As many as there are, but one of them in the place of another.
    first, second = self.predictions(texts)
    second['id'] = np.where(second['id'] == 3, 5, second['id'])
    first['id'] = np.where(first['id'] == 3, 5, first['id'])
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 9 of'):
      self.score([first], [second])


class RunTest(absltest.TestCase):
  """The real task and pipeline through the real loop, on eight devices."""

  def test_nothing_compiles_on_the_clock_with_all_shapes(self):
    size = dataclasses.replace(
      TINY,
      hparams=SMALL,
      data=DATA,
      target=dataclasses.replace(TINY.target, at_least={'BLEU': 1e-9}),
    )
    declared = dataclasses.replace(transformer.BENCHMARK, sizes={'tiny': size})
    path = os.path.join(self.create_tempdir().full_path, 'result_0.txt')
    mesh, clock = sharding.make_mesh(), Clock()
    log = fake_task.begun_log(path, clock, declared, size)
    task = _task()
    facts = task.inspect(DIRECTORY)
    seen = collections.Counter()
    loss = task.predict

    def predict(state, batch):
      seen[batch['source'].shape] += 1  # once a compile
      return loss(state, batch)

    task.predict = predict
    with fake_task.recorded_compiles(lambda: clock.running) as compiles:
      result = loop.run(
        task,
        facts,
        size.target,
        _data(clock, mesh),
        mesh=mesh,
        seed=0,
        log=log,
        clock=clock,
      )
    log.close()
    self.assertEqual(result.status, 'success')
    self.assertEqual(dict(seen), {(8, 4): 1, (8, 48): 1})
    steps = facts.plan.steps_of_shape
    self.assertGreater(np.count_nonzero(steps), 1)  # several shapes came
    self.assertLen(result.losses, steps.sum())
    self.assertEqual(result.samples, _blocks(task)[0].samples)
    self.assertGreater(result.flops_per_step, 0)
    self.assertNotEmpty(compiles)
    self.assertEqual([event for running, event in compiles if running], [])
    findings = audit.examine_log(path, get=lambda name: declared).findings
    self.assertEmpty([str(f) for f in audit.errors(findings)])


if __name__ == '__main__':
  absltest.main()
