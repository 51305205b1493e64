"""Tests of LAMB and its schedule, with numbers from the reference."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax

from suite.run import lamb, optimizers, sharding
from tests.suite.run.optimizers_test import nested, train

# Two layers in one array each, and variables that come once.
WEIGHTS = {
  'blocks_query/kernel': [
    [[0.5, -1.25], [2.0, 0.75]],
    [[0.1, 0.2], [-0.3, 0.05]],
  ],
  'blocks_norm/scale': [[1.0, 0.5], [0.9, 1.1]],
  'blocks_down/bias': [[0.25, -0.5], [0.0, 0.3]],
  'pooler/kernel': [[0.0, 0.0], [0.0, 0.0]],  # Its norm is 0 until it moves.
  'next/kernel': [[0.6, -0.8], [0.3, 0.4]],
}
RATES = [0.1, 0.05, 0.2, 0.1, 0.3]
GRADIENTS = [
  {
    'blocks_query/kernel': [0.88, 0.2, 0.36, -2.34, -1.08, 0.56, 0.94, -0.98],
    'blocks_norm/scale': [0.5, 0.41, 0.32, -0.49],
    'blocks_down/bias': [-0.79, -0.84, -1.28, 0.25],
    'pooler/kernel': [-0.04, 1.57, 1.05, 0.41],
    'next/kernel': [-0.17, -3.19, 1.12, 1.33],
  },
  {
    'blocks_query/kernel': [
      -0.02,
      -0.01,
      -0.01,
      0.16,
      0.01,
      -0.21,
      -0.09,
      -0.11,
    ],
    'blocks_norm/scale': [0.09, 0.21, -0.09, -0.16],
    'blocks_down/bias': [0.05, -0.16, 0.03, -0.11],
    'pooler/kernel': [-0.03, 0.03, -0.06, 0.15],
    'next/kernel': [0.06, 0.06, 0.04, 0.14],
  },
  {
    'blocks_query/kernel': [0.0, 0.0, 0.0, 0.0, -1.11, 0.0, 1.71, 2.96],
    'blocks_norm/scale': [-0.44, 3.01, -2.96, -1.71],
    'blocks_down/bias': [-1.66, 0.23, 1.06, 0.31],
    'pooler/kernel': [2.6, -1.99, 4.19, 0.72],
    'next/kernel': [1.38, -2.97, 0.2, -0.46],
  },
  {
    'blocks_query/kernel': [
      -0.26,
      -0.15,
      -0.29,
      -0.14,
      -0.07,
      0.14,
      0.19,
      0.15,
    ],
    'blocks_norm/scale': [0.01, 0.3, 0.04, 0.23],
    'blocks_down/bias': [-0.12, 0.43, -0.12, 0.34],
    'pooler/kernel': [-0.28, -0.57, 0.33, -0.1],
    'next/kernel': [-0.43, -0.43, -0.49, -0.54],
  },
  {
    'blocks_query/kernel': [-0.84, 0.44, -0.76, 0.69, -0.43, 0.9, 0.17, -0.31],
    'blocks_norm/scale': [-0.18, -1.26, 0.13, 0.63],
    'blocks_down/bias': [-1.57, -1.48, 0.87, 0.75],
    'pooler/kernel': [-0.57, 1.15, 0.6, -1.07],
    'next/kernel': [0.54, 0.66, -0.29, 0.4],
  },
]

# The weights after these steps, from the code of the reference
# (mlcommons/training, retired_benchmarks/bert/lamb_optimizer_v1.py) run with
# TensorFlow 2.21 on CPU: LAMBOptimizer with weight_decay_rate 0.01, beta_1 0.9,
# beta_2 0.999, epsilon 1e-6 and, as in its optimization.py, LayerNorm,
# layer_norm and bias excluded, each layer a variable of its own.
# With clip_by_global_norm_after_gradient_allreduce, after every step:
CLIPPED = [
  {
    'blocks_query/kernel': [
      0.373292506,
      -1.37449849,
      1.8714025,
      0.875132024,
      0.118867502,
      0.181075931,
      -0.318829715,
      0.068876937,
    ],
    'blocks_norm/scale': [0.900001109, 0.400001347, 0.800001681, 1.19999886],
    'blocks_down/bias': [0.349999309, -0.400000662, 0.0999995768, 0.200002208],
    'pooler/kernel': [
      0.0999862105,
      -0.0999996439,
      -0.0999994725,
      -0.0999986529,
    ],
    'next/kernel': [0.655439615, -0.743777812, 0.24405688, 0.344001055],
  },
  {
    'blocks_query/kernel': [
      0.299887031,
      -1.4298147,
      1.79898262,
      0.920393586,
      0.128869072,
      0.187063232,
      -0.322657704,
      0.0841331929,
    ],
    'blocks_norm/scale': [0.850009799, 0.353758812, 0.813160598, 1.24878216],
    'blocks_down/bias': [0.369341582, -0.349951208, 0.128446266, 0.221667215],
    'pooler/kernel': [0.105633691, -0.104773663, -0.102657251, -0.106182739],
    'next/kernel': [0.641782999, -0.721316278, 0.213810712, 0.308002263],
  },
  {
    'blocks_query/kernel': [
      0.00788891315,
      -1.64738941,
      1.50866818,
      1.09879351,
      0.189243436,
      0.210344493,
      -0.369324505,
      0.0720262453,
    ],
    'blocks_norm/scale': [0.752637744, 0.16865328, 0.947244287, 1.44520962],
    'blocks_down/bias': [0.506392598, -0.211281747, 0.148122445, 0.249650776],
    'pooler/kernel': [0.087605156, -0.106499009, -0.125354275, -0.136428595],
    'next/kernel': [0.535114884, -0.61160183, 0.109325834, 0.215384349],
  },
  {
    'blocks_query/kernel': [
      0.0708139464,
      -1.4906342,
      1.65254128,
      1.2116766,
      0.22235848,
      0.210379422,
      -0.400498152,
      0.0598583221,
    ],
    'blocks_norm/scale': [0.709931135, 0.0748656094, 0.997538328, 1.48528755],
    'blocks_down/bias': [0.578140378, -0.223111823, 0.17302686, 0.20388855],
    'pooler/kernel': [0.0858537033, -0.0975465477, -0.14279525, -0.14851287],
    'next/kernel': [0.556197882, -0.533384025, 0.128919527, 0.230909839],
  },
  {
    'blocks_query/kernel': [
      0.527121365,
      -1.60118949,
      2.24762774,
      1.27314353,
      0.332114041,
      0.158552155,
      -0.491032898,
      0.0436496735,
    ],
    'blocks_norm/scale': [0.659555197, -0.0243417844, 1.10912561, 1.49942255],
    'blocks_down/bias': [0.813705206, -0.126194701, 0.118871555, 0.0134649873],
    'pooler/kernel': [0.0994061008, -0.0952112898, -0.212656617, -0.13207458],
    'next/kernel': [0.537206352, -0.316286087, 0.23954086, 0.234405056],
  },
]
# Without any clip, after the last step:
UNCLIPPED = {
  'blocks_query/kernel': [
    0.179856345,
    -2.15547371,
    2.08800983,
    1.59463787,
    0.298745811,
    0.0645926446,
    -0.485113472,
    0.00554682687,
  ],
  'blocks_norm/scale': [0.878733814, 0.0463997647, 1.05990684, 1.54709566],
  'blocks_down/bias': [0.842623353, -0.123051599, 0.0614146739, -0.268126637],
  'pooler/kernel': [0.0499809012, -0.094471544, -0.20617637, -0.139384896],
  'next/kernel': [0.395715743, -0.329598725, 0.051153224, 0.188865349],
}
# Of two replicas, the second of which has the next step's gradients (the last
# one the first's), whose means are trained on, after the last step. Clipped by
# the optimizer, after the mean:
TWO_AFTER = {
  'blocks_query/kernel': [
    0.366063267,
    -2.33524847,
    2.26477623,
    1.70708251,
    0.29863593,
    0.0651536658,
    -0.499385118,
    0.00870431866,
  ],
  'blocks_norm/scale': [0.877434134, 0.0408734903, 1.18254495, 1.53865504],
  'blocks_down/bias': [
    0.984271109,
    -0.0447677523,
    -0.00147141516,
    -0.355044127,
  ],
  'pooler/kernel': [0.057843741, -0.110495113, -0.212400094, -0.109243125],
  'next/kernel': [0.314982504, -0.346860468, 0.122637898, 0.21254921],
}
# Clipped by each replica before the mean, as by default:
TWO_BEFORE = {
  'blocks_query/kernel': [
    1.04699445,
    -1.19436538,
    2.83961201,
    1.43849719,
    0.331375599,
    0.194135681,
    -0.517807126,
    0.0196484346,
  ],
  'blocks_norm/scale': [0.639533103, -0.0433381051, 1.41065097, 1.46218801],
  'blocks_down/bias': [0.960159302, -0.17141372, -0.00272299349, 0.106398717],
  'pooler/kernel': [0.0943243504, -0.0807801336, -0.215410709, -0.115665399],
  'next/kernel': [0.472144872, -0.228881314, 0.340958536, 0.330380261],
}


def _lamb(**changes):
  how = {
    'beta_1': 0.9,
    'beta_2': 0.999,
    'epsilon': 1e-6,
    'weight_decay': 0.01,
    'skip': r'_norm/|bias$',
    'stacked': {'blocks': 1},
  }
  rates = jnp.asarray(RATES)
  return lamb.lamb(lambda count: rates[count], **how | changes)


def _shaped(grads):
  return {
    path: np.reshape(grads[path], np.shape(value))
    for path, value in WEIGHTS.items()
  }


def _pairs():
  """Of each step, the gradients of both replicas."""
  shaped = [_shaped(each) for each in GRADIENTS]
  return list(zip(shaped, [*shaped[1:], shaped[0]], strict=True))


class LambTest(parameterized.TestCase):
  def check(self, found, expected):
    for path, values in expected.items():
      np.testing.assert_allclose(
        found[path].ravel(), values, rtol=2e-5, atol=2e-6, err_msg=path
      )

  def test_five_steps_are_those_of_the_reference(self):
    seen, state = train(_lamb(clip_norm=1.0), WEIGHTS, map(_shaped, GRADIENTS))
    for ours, theirs in zip(seen, CLIPPED, strict=True):
      self.check(ours, theirs)
    self.assertEqual(int(state.count), 5)

  def test_without_a_clip_too(self):
    seen, _ = train(_lamb(), WEIGHTS, map(_shaped, GRADIENTS))
    self.check(seen[-1], UNCLIPPED)

  def test_a_clip_after_the_mean_of_two_replicas(self):
    means = [{k: (a[k] + b[k]) / 2 for k in a} for a, b in _pairs()]
    seen, _ = train(_lamb(clip_norm=1.0), WEIGHTS, means)
    self.check(seen[-1], TWO_AFTER)

  def test_a_clip_before_the_mean_of_two_replicas(self):
    clipped = [[lamb.clipped(each, 1.0) for each in p] for p in _pairs()]
    means = [{k: (a[k] + b[k]) / 2 for k in a} for a, b in clipped]
    seen, _ = train(_lamb(), WEIGHTS, means)
    self.check(seen[-1], TWO_BEFORE)

  @parameterized.named_parameters(
    ('layers_of_one_ratio', {'stacked': None}),
    ('all_are_adapted', {'skip': None}),
  )
  def test_other_exclusions_are_another_optimizer(self, changes):
    seen, _ = train(
      _lamb(clip_norm=1.0, **changes), WEIGHTS, map(_shaped, GRADIENTS)
    )
    with self.assertRaises(AssertionError):
      self.check(seen[-1], CLIPPED[-1])

  @parameterized.parameters((8, 1), (4, 2))
  def test_norms_are_over_all_shards(self, data, model):
    """Weights and moments may lie in parts on any axis of the mesh."""
    mesh = sharding.make_mesh(model)
    rng = np.random.default_rng(3)
    params = {
      'blocks': {'kernel': rng.normal(size=(2, 16, 8)), 'bias': np.ones((2, 8))}
    }
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    params, grads = jax.tree.map(jnp.float32, (params, grads))
    optimizer = _lamb(clip_norm=1.0, skip='bias$')
    whole, _ = optimizer.update(grads, optimizer.init(params), params)
    spec = jax.sharding.PartitionSpec(None, sharding.DATA, 'model')
    split = {
      'kernel': jax.NamedSharding(mesh, spec),
      'bias': jax.NamedSharding(mesh, jax.sharding.PartitionSpec()),
    }
    split = {'blocks': split}
    placed = jax.device_put((grads, params), (split, split))
    update = jax.jit(
      lambda grads, params: optimizer.update(
        grads, optimizer.init(params), params
      )[0],
      out_shardings=split,
    )
    found = update(*placed)
    self.assertEqual(
      found['blocks']['kernel'].addressable_shards[0].data.shape,
      (2, 16 // data, 8 // model),
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, whole
    )

  def test_parts_of_a_layer_in_one_array_are_variables_of_their_own(self):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(2, 3, 4, 5)) * [[[[1]], [[10]], [[100]]]] * 2
    grads = rng.normal(size=weights.shape)
    found, _ = train(
      _lamb(skip=None, stacked={'qkv': 2}),
      {'a/qkv': weights.tolist()},
      [{'a/qkv': grads.tolist()}],
    )
    alone = {f'a/{i}{j}': weights[i, j] for i in range(2) for j in range(3)}
    expected, _ = train(
      _lamb(skip=None, stacked=None),
      {path: values.tolist() for path, values in alone.items()},
      [{path: grads[int(path[2]), int(path[3])].tolist() for path in alone}],
    )
    for path in alone:
      i, j = int(path[2]), int(path[3])
      np.testing.assert_allclose(
        found[0]['a/qkv'][i, j], expected[0][path], rtol=1e-6
      )

  def test_where_nothing_is_skipped_or_stacked_it_is_that_of_optax(self):
    theirs = optax.lamb(
      lambda count: 0.1, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.01
    )
    ours = lamb.lamb(
      lambda count: 0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-6,
      weight_decay=0.01,
    )  # fmt: skip
    seen, expected = (
      train(each, WEIGHTS, map(_shaped, GRADIENTS))[0]
      for each in (ours, theirs)
    )
    for a, b in zip(seen, expected, strict=True):
      for path in WEIGHTS:
        np.testing.assert_allclose(a[path], b[path], rtol=1e-5)

  def test_patterns_that_match_nothing_are_refused(self):
    for changes in ({'skip': 'gamma'}, {'stacked': {'blocks': 1, 'qkv': 2}}):
      with self.assertRaisesRegex(ValueError, '(gamma|qkv).* to match'):
        _lamb(**changes).init(nested(WEIGHTS))

  def test_an_update_needs_the_parameters(self):
    params = nested(WEIGHTS)
    with self.assertRaisesRegex(ValueError, 'got None'):
      _lamb().update(params, _lamb().init(params))

  @parameterized.parameters(
    {'beta_1': 1.0},
    {'epsilon': 0.0},
    {'weight_decay': -0.1},
    {'clip_norm': 0.0},
  )
  def test_impossible_constants_are_refused(self, **change):
    with self.assertRaisesRegex(ValueError, 'Expected .* got .*'):
      _lamb(**change)


class ClippedTest(absltest.TestCase):
  def test_only_what_is_longer_is_made_shorter(self):
    grads = {'a': jnp.asarray([3.0, 0.0]), 'b': jnp.asarray([[4.0]])}
    for norm, expected in ((10.0, 1.0), (5.0, 1.0), (1.0, 0.2)):
      found = lamb.clipped(grads, norm)
      np.testing.assert_allclose(found['a'], [3 * expected, 0], rtol=1e-6)
      np.testing.assert_allclose(found['b'], [[4 * expected]], rtol=1e-6)


class AbsolutePolynomialTest(parameterized.TestCase):
  # create_optimizer of the reference's optimization.py, run as above.
  @parameterized.named_parameters(
    ('no_warmup', {'base': 4.25e-4, 'steps': 6700}, {
      0: 4.25e-4, 1: 4.24936588e-4, 100: 4.18656738e-4, 3350: 2.125e-4,
      6699: 6.34565964e-8, 6700: 0.0, 7000: 0.0,
    }),
    ('warmup', {'base': 2e-3, 'steps': 1141, 'warmup_steps': 100}, {
      0: 0.0, 1: 2e-5, 50: 1e-3, 99: 1.98e-3, 100: 1.82471517e-3,
      101: 1.82296243e-3, 600: 9.48290981e-4, 1140: 1.75285345e-6, 1141: 0.0,
    }),
    ('a_start_before_step_0', {
      'base': 2.88293e-3, 'steps': 600, 'warmup_steps': 287,
      'start_warmup_step': -76,
    }, {
      0: 7.63423974e-4, 1: 7.73469044e-4, 100: 1.76792918e-3,
      210: 2.87288497e-3, 211: 1.86909956e-3, 212: 1.86429464e-3,
      599: 4.8048787e-6, 600: 0.0,
    }),
    ('a_start_without_warmup', {
      'base': 2.9293e-3, 'steps': 700, 'start_warmup_step': -700,
    }, {0: 2.9293e-3, 1: 2.9251154e-3, 350: 1.46465e-3, 700: 0.0}),
    ('a_square_and_a_late_start', {
      'base': 1e-3, 'steps': 200, 'warmup_steps': 20, 'start_warmup_step': 10,
      'power': 2.0,
    }, {0: -5e-4, 50: 5.625e-4, 100: 2.5e-4, 150: 6.25e-5}),
  )  # fmt: skip
  def test_rates_are_those_of_the_reference(self, how, expected):
    schedule = optimizers.absolute_polynomial(**{'power': 1.0, **how})
    for step, rate in expected.items():
      for found in (schedule(step), jax.jit(schedule)(jnp.int32(step))):
        # The reference's last rate before 0 has lost its digits.
        np.testing.assert_allclose(found, rate, rtol=3e-5, atol=1e-10)

  @parameterized.parameters((-1, 5), (0, 0))
  def test_impossible_lengths_are_refused(self, warmup, steps):
    with self.assertRaisesRegex(ValueError, f'got {warmup} and {steps}'):
      optimizers.absolute_polynomial(
        base=1.0, power=1, steps=steps, warmup_steps=warmup
      )


if __name__ == '__main__':
  absltest.main()
