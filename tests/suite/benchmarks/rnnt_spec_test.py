"""Numbers that the specification of RNN-T fixes, each stated once.

From mlcommons/training, retired_benchmarks/rnnt/pytorch, and the rules of
rounds v1.0 to v3.1: training_rules.adoc of mlcommons/training_policies,
training_*/closed_rnnt.yaml and the convergence points of mlcommons/logging. The
number of utterances is that of published logs.
"""

import dataclasses
import math
from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines import librispeech
from input_pipelines.audio import log_mel, resample
from input_pipelines.librispeech import prepare
from input_pipelines.text import pieces
from models import rnnt as model
from models.parts import spec_augment
from suite.benchmarks.rnnt import task as rnnt_task
from suite.run import program
from tests.suite.benchmarks import spec_table

LIBRISPEECH = ('librispeech', 281_241, 2703)
TABLE = spec_table.Table(
  name='rnnt',
  runs=10,
  dropped=1,
  sizes={
    'reference': ('3.1.0', {'WER': {'at_most': 0.058}}, LIBRISPEECH, 30),
    'v1.0': ('1.0.0', {'WER': {'at_most': 0.058}}, LIBRISPEECH, 30),
  },
  fixed={
    'opt_name': 'lamb',
    'alt_warmup': True,
    'alt_decay': True,
    'least_learning_rate': 1e-5,
    'epsilon': 1e-9,
    'weight_decay': 1e-3,
    'forget_bias': 1.0,
    'epochs_between_evals': 1,
    'symbols_per_frame': 30,
    'most_symbols': 300,
    'speed_min': 0.85,
    'speed_max': 1.15,
    'freq_masks': 2,
    'freq_min': 0,
    'freq_max': 20,
    'time_masks': 10,
    'time_min': 0,
    'time_max': 0.03,
    'bands': 80,
    'splice': 3,
    'stack': 2,
    'pieces': 1023,
    'layers_before': 2,
    'layers_after': 3,
    'encoder_width': 1024,
    'prediction_layers': 2,
    'prediction_width': 512,
    'joint_width': 512,
    'encoder_dropout': 0.1,
    'prediction_dropout': 0.3,
    'joint_dropout': 0.3,
  },
  tunable={  # the recipe of the points for a batch of 1,024
    'global_batch_size': 1024,
    'base_learning_rate': 7.447e-3,
    'warmup_epochs': 3,
    'hold_epochs': 17,
    'decay_gamma': 0.9037,
    'beta_1': 0.9,
    'beta_2': 0.999,
    'clip_norm': 1.0,
    'ema_factor': 0.992,
    'start_scale': 0.5,
    'max_duration': 16.7,
    'utterances': 278_528,
    'num_buckets': 1,
    'max_epochs': 100,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'bucket_by_heard',
    'train_frames',
    'train_symbols',
    'compute_dtype',
    'remat',
    'unroll',
    'lstm_kernel',
    'joint_block',
    'eval_batch_size',
    'eval_frames',
  ),
  changed={
    'v1.0': {
      'base_learning_rate': 4e-3,
      'warmup_epochs': 6,
      'hold_epochs': 40,
      'decay_gamma': 0.935,
      'ema_factor': 0.999,
      'num_buckets': 6,
    }
  },
  allowed=(
    {'global_batch_size': '2048', 'base_learning_rate': '7e-3',
     'warmup_epochs': '6', 'hold_epochs': '33', 'decay_gamma': '0.939',
     'ema_factor': '0.995'},
    {'global_batch_size': '6144', 'base_learning_rate': '0.014',
     'beta_1': '0.82', 'beta_2': '0.98', 'warmup_epochs': '16'},
    {'start_scale': '0.35', 'num_buckets': '12'},
    {'max_duration': '20', 'num_buckets': '6', 'bucket_by_heard': 'true'},
    {'utterances': '279000'},
    {'train_frames': '960,1926', 'train_symbols': '80,132'},
    {'gradient_accumulation_steps': '8', 'remat': 'true'},
  ),
  refused=(
    {'opt_name': 'adam'},
    {'epsilon': '1e-8'},
    {'weight_decay': '1e-2'},
    {'clip_norm': '2'},
    {'clip_norm': 'inf'},  # in logs of others it may be
    {'least_learning_rate': '1e-6'},
    {'alt_decay': 'false'},
    {'alt_warmup': 'false'},
    {'forget_bias': '0'},
    {'speed_min': '0.9'},
    {'speed_max': '1.2'},
    {'freq_masks': '1'},
    {'freq_max': '27'},
    {'time_masks': '2'},
    {'time_max': '0.05'},
    {'most_symbols': '200'},
    {'symbols_per_frame': '10'},
    {'pieces': '511'},
    {'encoder_width': '512'},
    {'prediction_dropout': '0.1'},
    {'epochs_between_evals': '2'},
    {'train_frames': '1000'},  # no multiple of 3
    {'train_symbols': '80,132'},  # for one shape
  ),
  logged={
    'global_batch_size': 1024,
    'gradient_accumulation_steps': 1,
    'opt_name': 'lamb',
    'opt_base_learning_rate': 7.447e-3,
    'opt_lamb_epsilon': 1e-9,
    'opt_lamb_learning_rate_decay_poly_power': 0.9037,
    'opt_lamb_learning_rate_hold_epochs': 17,
    'opt_learning_rate_warmup_epochs': 3,
    'opt_weight_decay': 1e-3,
    'opt_lamb_beta_1': 0.9,
    'opt_lamb_beta_2': 0.999,
    'opt_gradient_clip_norm': 1.0,
    'opt_learning_rate_alt_decay_func': True,
    'opt_learning_rate_alt_warmup_func': True,
    'opt_lamb_learning_rate_min': 1e-5,
    'data_train_max_duration': 16.7,
    'data_train_num_buckets': 1,
    'data_speed_perturbaton_min': 0.85,  # as the rules spell it
    'data_speed_perturbaton_max': 1.15,
    'data_spec_augment_freq_n': 2,
    'data_spec_augment_freq_min': 0,
    'data_spec_augment_freq_max': 20,
    'data_spec_augment_time_n': 10,
    'data_spec_augment_time_min': 0,
    'data_spec_augment_time_max': 0.03,
    'model_eval_ema_factor': 0.992,
    'model_weights_initialization_scale': 0.5,
    'eval_max_prediction_symbols': 300,
  },
)  # fmt: skip
# Rates that lr_policy of the reference sets, with 272 steps an epoch: by the
# number of the step, from 1.
_RATES = {
  'reference': {
    1: 1.8230110159118725e-05, 2: 2.734516523867809e-05,
    100: 0.0009206205630354956, 815: 0.007437884944920441, 816: 0.007447,
    817: 0.007447, 5439: 0.007447, 5440: 0.007447, 5441: 0.006729853899999999,
    5712: 0.006729853899999999, 5713: 0.0060817689694299985,
    8165: 0.0024448288339504087, 29920: 1e-05,
  },
  'v1.0': {
    1: 1e-05, 2: 1e-05, 100: 0.0002473974280465401, 1631: 0.003997550520514391,
    1632: 0.004, 1633: 0.004, 12511: 0.004, 12512: 0.004,
    12513: 0.0037400000000000003, 12784: 0.0037400000000000003,
    12785: 0.0034969000000000007, 15237: 0.0019097992169019023, 36992: 1e-05,
  },
}  # fmt: skip


class RNNTSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_data_set(self):
    self.assertEqual(
      librispeech.TRAIN,
      ('train-clean-100', 'train-clean-360', 'train-other-500'),
    )
    self.assertEqual(librispeech.EVAL, 'dev-clean')
    self.assertEqual(
      (librispeech.RATE, librispeech.PIECES, pieces.UNKNOWN), (16_000, 1023, 0)
    )
    self.assertEqual(
      prepare.MD5,
      {
        'dev-clean.tar.gz': '42e2234ba48799c1f50f24a7926300a1',
        'train-clean-100.tar.gz': '2a93770f6d5c6c964bc36631d331a522',
        'train-clean-360.tar.gz': 'c0e676e450a7ff2f54aeade5171606fa',
        'train-other-500.tar.gz': 'd1a0fd59409feb2c614ce4d30c387708',
      },
    )

  def test_the_front_end(self):
    self.assertEqual(
      self.task()._front_end,
      log_mel.FrontEnd(
        rate=16_000,
        bands=80,
        window=320,
        step=160,
        points=512,
        silence=-60.0,
        silence_window=2048,
        dither=1e-5,
        emphasis=0.97,
        floor=1e-20,
      ),
    )
    self.assertEqual(resample.LOBES, 16)

  def test_the_masks(self):
    self.assertEqual(
      self.task()._masks, spec_augment.Masks(2, 0, 20, 10, 0, 0.03)
    )

  def test_the_samples_of_published_logs(self):
    for batch, samples in (
      (512, 278_528), (1024, 278_528), (1536, 278_016), (2048, 278_528),
      (6144, 276_480),
    ):  # fmt: skip
      hp = dataclasses.replace(self.size().hparams, global_batch_size=batch)
      self.assertEqual(self.size().data.trained(hp), samples)

  def test_the_model(self):
    task = self.task()
    state = program.abstract_state(task)
    self.assertEqual(
      sum(leaf.size for leaf in jax.tree.leaves(state.params)), 49_006_080
    )
    self.assertEqual(
      jax.tree.map(lambda leaf: leaf.shape, state.average),
      jax.tree.map(lambda leaf: leaf.shape, state.params),
    )
    self.assertEqual(
      task.tensors,
      ('pre_rnn', 'post_rnn', 'pred_embed', 'dec_rnn', 'joint_pred',
       'joint_enc', 'joint_net'),
    )  # fmt: skip
    self.assertEqual(
      model.FULL, model.Size(240, 1023, 1024, 2, 3, 2, 512, 2, 512)
    )
    self.assertEqual(model.FULL.blank, 1023)
    self.assertEqual(model.START, model.Start(scale=0.5, forget=1.0))
    compute = model.Compute()
    self.assertEqual(
      (compute.encoder_dropout, compute.prediction_dropout,
       compute.joint_dropout),
      (0.1, 0.3, 0.3),
    )  # fmt: skip

  def made(self, size='reference', **changes):
    """A task that is made anew, for what it calls while it is."""
    size = self.size(size)
    hp = dataclasses.replace(size.hparams, **changes)
    return rnnt_task.RNNTTask(hp, size.data)

  def test_the_model_is_made_by_the_hyperparameters(self):
    with mock.patch.object(model, 'RNNT', side_effect=model.RNNT) as made:
      self.made(
        start_scale=0.35, forget_bias=0.75, encoder_dropout=0.11,
        prediction_dropout=0.22, joint_dropout=0.33, joint_block=4,
      )  # fmt: skip
    (size,), how = made.call_args
    self.assertEqual(size, model.FULL)
    self.assertEqual(how['start'], model.Start(0.35, 0.75))
    compute = how['compute']
    self.assertEqual(
      (compute.encoder_dropout, compute.prediction_dropout,
       compute.joint_dropout, compute.block),
      (0.11, 0.22, 0.33, 4),
    )  # fmt: skip

  def test_evals_stop_after_the_symbols_of_the_rules(self):
    task, asked = self.task(), []

    def transcribe(self, speech, lengths, **how):
      del self
      asked.append((speech.shape, how))
      return jnp.zeros((len(lengths), 330), jnp.int32), lengths

    with mock.patch.object(model.RNNT, 'transcribe', transcribe):
      jax.eval_shape(
        task.predict, program.abstract_state(task), task.eval_specs[0]
      )
    self.assertEqual(asked, [((256, 200, 240), {'per_frame': 30, 'most': 300})])

  def test_what_is_trained_on(self):
    """Utterances of 16.7 seconds, at 0.85 to 1.15 times their samples."""
    samples = np.resize([267_200, 160_000, 80_000], 278_600)
    lengths = np.stack([np.append(samples, 267_201), [9] * 278_601], axis=1)
    for size, buckets in (('reference', 1), ('v1.0', 6)):
      plan = self.made(size).plan(lengths)
      self.assertEqual((plan.kept, plan.steps), (278_600, 272))
      epoch = plan.epoch(1, 0)
      self.assertBetween(epoch.speeds.min(), 0.85, 0.851)
      self.assertBetween(epoch.speeds.max(), 1.149, 1.15)
      # A third of the utterances, so two buckets of six, is of a length.
      kinds = [len(np.unique(samples[batch])) for batch in epoch.members]
      self.assertEqual(np.median(kinds), 3 if buckets == 1 else 1)

  def test_the_optimizer_is_made_by_the_hyperparameters(self):
    with mock.patch.object(rnnt_task.lamb, 'lamb') as made:
      self.made()
    self.assertEqual(
      made.call_args.kwargs,
      {'beta_1': 0.9, 'beta_2': 0.999, 'epsilon': 1e-9, 'weight_decay': 1e-3,
       'clip_norm': 1.0},
    )  # fmt: skip

  def test_the_learning_rate(self):
    for size, rates in _RATES.items():
      with mock.patch.object(rnnt_task.lamb, 'lamb') as made:
        self.made(size)
      (schedule,) = made.call_args.args
      for step, expected in rates.items():
        np.testing.assert_allclose(
          schedule(step - 1), expected, rtol=3e-6, err_msg=f'{size} {step}'
        )

  def test_the_optimizer_and_the_average(self):
    """Four steps by the formulas of apex's FusedLAMB, a bias beside a matrix.

    Gradients are divided by their norm where it is above 1; both are decayed
    and adapted; the average begins with the weights.
    """
    task = self.task(warmup_epochs=0, base_learning_rate=0.1)
    weights = {'b': np.array([0.5, -1.0]), 'w': np.array([[1.0, 2.0, -2.0]])}
    params = jax.tree.map(jnp.float32, weights)
    state, average = task.optimizer.init(params), dict(params)
    moments = dict.fromkeys(weights, (0.0, 0.0))
    expected, rng = dict(weights), np.random.default_rng(0)
    for step in range(1, 5):
      size = 2.0 if step % 2 else 0.1
      grads = {n: size * rng.normal(size=w.shape) for n, w in weights.items()}
      updates, state = task.optimizer.update(
        jax.tree.map(jnp.float32, grads), state, params
      )
      params = jax.tree.map(jnp.add, params, updates)
      moved = 1 - task.average(step - 1)
      norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
      self.assertEqual(norm > 1, step % 2 == 1)
      for name, w in weights.items():
        average[name] += moved * (params[name] - average[name])
        g, (m, v) = grads[name] / max(1, norm), moments[name]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-9)
        u += 1e-3 * w
        w = w - 0.1 * np.linalg.norm(w) / np.linalg.norm(u) * u
        moments[name], weights[name] = (m, v), w
        expected[name] = 0.992 * expected[name] + 0.008 * w
        np.testing.assert_allclose(params[name], w, rtol=2e-5)
        np.testing.assert_allclose(average[name], expected[name], rtol=2e-5)

  def test_evals(self):
    at = [block.at['epoch_num'] for block in self.task().blocks(None)]
    self.assertEqual(at, [*range(1, 101)])
    block = self.task().blocks(None)[0]
    self.assertEqual((block.steps, block.samples), (272, 278_528))


if __name__ == '__main__':
  absltest.main()
