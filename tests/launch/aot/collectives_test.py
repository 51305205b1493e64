"""Tests of finding what devices send each other."""

import dataclasses

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from launch.aot import collectives, hlo
from suite import benchmark as benchmark_lib
from suite.run import program, sharding

# Starts and ends, a tuple, a loop, a fusion, and one written in two fusions.
_KINDS = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (p: f32[64]) -> f32[8] {
  %p = f32[64]{0} parameter(0)
  %zero = s32[] constant(0)
  %r = f32[64]{0} all-reduce(%p), channel_id=7, replica_groups={{0,1,2,3,4,5,6,7}}, use_global_device_ids=true, to_apply=%add
  ROOT %d = f32[8]{0} dynamic-slice(%r, %zero), dynamic_slice_sizes={8}
}

%beside.1 (p: bf16[16]) -> bf16[128] {
  %p = bf16[16]{0} parameter(0)
  ROOT %g = bf16[128]{0} all-gather(%p), channel_id=9, replica_groups=[1,8]<=[8], dimensions={0}
}

%beside.2 (p: bf16[16]) -> bf16[128] {
  %p = bf16[16]{0} parameter(0)
  ROOT %g = bf16[128]{0} all-gather(%p), channel_id=9, replica_groups=[1,8]<=[8], dimensions={0}
}

%async (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %t = f32[4]{0} all-to-all(%p), channel_id=3, replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
}

%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[4]{0} get-tuple-element(%s), index=1
  %y = f32[4]{0} collective-permute(%x), channel_id=4, source_target_pairs={{0,1},{2,3}}
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %y)
}

%condition (s: (s32[], f32[4])) -> pred[] {
  %s = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %three = s32[] constant(3)
  ROOT %l = pred[] compare(%i, %three), direction=LT
}

ENTRY %main (a: f32[64], b: bf16[16], s: (s32[], f32[4])) -> f32[] {
  %a = f32[64]{0} parameter(0)
  %b = bf16[16]{0} parameter(1)
  %s = (s32[], f32[4]{0}) parameter(2)
  %x = f32[4]{0} get-tuple-element(%s), index=1
  %f = f32[8]{0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
  %g = bf16[128]{0} fusion(%b), kind=kOutput, calls=%beside.1
  %h = bf16[128]{0} fusion(%b), kind=kOutput, calls=%beside.2
  %rs = (f32[64]{0}, f32[4]{0}) all-reduce-start(%a, /*index=1*/%x), channel_id=1, replica_groups={}, to_apply=%add
  %rd = (f32[64]{0}, f32[4]{0}) all-reduce-done(%rs)
  %gs = (f32[64]{0}, f32[128]{0}) all-gather-start(%a), channel_id=2, replica_groups=mesh['x'=4,'y'=2] {'y'}, dimensions={0}
  %gd = f32[128]{0} all-gather-done(%gs)
  %as = ((f32[4]{0}), f32[4]{0}, s32[]) async-start(%x), calls=%async
  %ad = f32[4]{0} async-done(%as)
  %w = (s32[], f32[4]{0}) while(%s), condition=%condition, body=%body
  %alone = f32[64]{0} all-reduce(%a), channel_id=8, replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  ROOT %z = f32[] constant(0)
}
"""  # noqa: E501


# How a TPU asks its host to reduce over slices.
_SEND = """HloModule m

ENTRY %%main (p: f32[1,128]) -> token[] {
  %%p = f32[1,128]{1,0} parameter(0)
  %%t = token[] after-all()
  %%s = (f32[1,128]{1,0}, u32[], token[]) send(%%p, %%t), channel_id=5, is_host_transfer=true, frontend_attributes={_xla_host_transfer_rendezvous="x_0",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="%s"}
  ROOT %%d = token[] send-done(%%s), channel_id=5, is_host_transfer=true
}
"""  # noqa: E501


def _of(text, devices=8):
  return collectives.of_module(hlo.Module(text), devices)


def _summary(found):
  return [(c.kind, c.bytes, c.times, c.groups.shape[1]) for c in found]


class ReadingTest(parameterized.TestCase):
  def test_each_is_found_once_with_its_bytes(self):
    self.assertCountEqual(
      _summary(_of(_KINDS)),
      [
        ('reduce-scatter', 256, 1, 8),
        ('all-gather', 256, 1, 8),  # in two fusions, on one channel
        ('all-reduce', 272, 1, 8),  # a tuple of two
        ('all-gather', 512, 1, 2),  # what is gathered, not what is given
        ('all-to-all', 16, 1, 4),
        ('collective-permute', 16, 3, 2),
      ],
    )

  @parameterized.parameters(
    ('{{0,1},{2,3}}', [[0, 1], [2, 3]]),
    ('{}', [[0, 1, 2, 3]]),
    ('[2,2]<=[4]', [[0, 1], [2, 3]]),
    ('[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ('[4]<=[4]', [[0, 1, 2, 3]]),
    ("mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2] {'b'}", [[0, 1], [2, 3]]),
    ("mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
    ("mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
    ("mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
    ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2], device_ids=(3,1,2,0) {'b'}", [[3, 1], [2, 0]]),
  )
  def test_groups_in_every_form(self, text, groups):
    found = collectives.parse_groups(text, 4).tolist()
    self.assertCountEqual(found, groups)

  def test_the_middle_of_an_axis_is_a_group(self):
    found = collectives.parse_groups("mesh['a'=8] {'a':(2)2}", 8).tolist()
    self.assertCountEqual(found, [[0, 2], [1, 3], [4, 6], [5, 7]])

  @parameterized.parameters(
    'all', "mesh['a'=2", "mesh['a'=2] {'b'}", '[2,2]<=x'
  )
  def test_groups_that_are_none_are_refused(self, text):
    with self.assertRaises(ValueError):
      collectives.parse_groups(text, 4)

  @parameterized.parameters(
    ([[0, 2], [1, 3]], 'data'),
    ([[1, 0], [2, 3]], 'model'),
    ([[3, 2, 1, 0]], 'data+model'),
    ([[0, 3], [1, 2]], 'part of data+model'),
    ([[0, 2]], 'part of data'),
  )
  def test_axes_of_groups(self, groups, axis):
    found = collectives.axis_of(np.array(groups), {'data': 2, 'model': 2})
    self.assertEqual(found, axis)

  def test_an_axis_of_one_device_is_no_axis(self):
    shape = {'data': 4, 'model': 1}
    self.assertEqual(collectives.axis_of(np.arange(4)[None], shape), 'data')


class SlicesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('ALL_REDUCE', 'all-reduce', 512),
    ('ALL_GATHER', 'all-gather', 1024),
    ('REDUCE_SCATTER', 'reduce-scatter', 512),
    ('ONE_TO_ONE', 'collective-permute', 512),
  )
  def test_what_goes_through_hosts_is_between_likes(self, said, kind, size):
    (found,) = collectives.of_module(hlo.Module(_SEND % said), 8, slices=2)
    self.assertEqual(_summary([found]), [(kind, size, 1, 2)])
    self.assertEqual(found.groups.tolist(), [[0, 4], [1, 5], [2, 6], [3, 7]])

  def test_another_transfer_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'BY_POST'):
      collectives.of_module(hlo.Module(_SEND % 'BY_POST'), 8, slices=2)


class CompiledTest(parameterized.TestCase):
  """Programs for eight CPU devices, against what they must send."""

  def setUp(self):
    super().setUp()
    devices = np.array(jax.devices()).reshape(4, 2)
    axes = (AxisType.Auto, AxisType.Auto)
    self.mesh = Mesh(devices, ('data', 'model'), axis_types=axes)

  def _compile(self, function, into, out, *shapes):
    put = [NamedSharding(self.mesh, spec) for spec in into]
    back = NamedSharding(self.mesh, out)
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    jitted = jax.jit(function, in_shardings=put, out_shardings=back)
    return _of(jitted.lower(*arguments).compile().as_text())

  def test_a_sum_over_data_is_an_all_reduce_of_the_result(self):
    (found,) = self._compile(
      lambda x: x.sum(axis=0), [P('data', None)], P(), (8, 64)
    )
    self.assertEqual(_summary([found]), [('all-reduce', 256, 1, 4)])
    self.assertEqual(collectives.axis_of(found.groups, self.mesh.shape), 'data')

  def test_fetching_what_is_split_is_an_all_gather_of_the_whole(self):
    (found,) = self._compile(lambda x: x, [P('model')], P(), (64,))
    self.assertEqual(_summary([found]), [('all-gather', 256, 1, 2)])
    axis = collectives.axis_of(found.groups, self.mesh.shape)
    self.assertEqual(axis, 'model')

  def test_a_loop_counts_as_often_as_it_turns(self):
    def scanned(x, w):
      return jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]

    found = self._compile(
      scanned, [P(None, 'model'), P('model', None)], P(), (8, 16), (16, 16)
    )
    self.assertEqual(max(c.times for c in found), 5)
    self.assertTrue(all(c.certain for c in found))

  def test_a_train_step_reduces_every_parameter_once(self):
    benchmark = benchmark_lib.get('ncf')
    size = benchmark.size('tiny')
    changed = dataclasses.replace(size.hparams, opt_name='adam')
    task = benchmark.task(changed, size.data)
    (low,) = program.lower(task, sharding.make_mesh())['train_step']
    found = _of(low.compile().as_text())
    leaves = jax.tree.leaves(program.abstract_state(task).params)
    params = sum(4 * leaf.size for leaf in leaves)
    reduced = sum(c.bytes for c in found if c.kind == 'all-reduce')
    # Two numbers more: the sum of the losses, and of the weights.
    self.assertEqual(reduced, params + 8)
    self.assertEqual({c.kind for c in found}, {'all-reduce'})


if __name__ == '__main__':
  absltest.main()
