"""Tests of counting the operations and bytes of compiled programs."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp

from launch.aot import hlo, work
from suite.run import flops

_CUDNN = """HloModule m

ENTRY %main (x: bf16[2,8,8,3], w: bf16[4,3,3,3], y: bf16[2,4,4,4]) -> f32[] {
  %x = bf16[2,8,8,3]{3,2,1,0} parameter(0)
  %w = bf16[4,3,3,3]{3,2,1,0} parameter(1)
  %y = bf16[2,4,4,4]{3,2,1,0} parameter(2)
  %f = (bf16[2,4,4,4]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %i = (bf16[2,8,8,3]{3,2,1,0}, u8[0]{0}) custom-call(%y, %w), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %k = (bf16[4,3,3,3]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %a = f32[16,8]{1,0} constant({...})
  %b = f32[8,32]{1,0} constant({...})
  %g = (f32[16,32]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"alpha_real":1,"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %z = f32[] constant(0)
}
"""  # noqa: E501

# A gather, an update in place, a scatter, and what stays in a fast memory.
_MOVES = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%take (t: f32[1000,128], i: s32[4]) -> f32[4,128] {
  %t = f32[1000,128]{1,0} parameter(0)
  %i = s32[4]{0} parameter(1)
  ROOT %g = f32[4,128]{1,0} gather(%t, %i), offset_dims={1}
}

%put (t: f32[1000,128], u: f32[1,128], i: s32[]) -> f32[1000,128] {
  %t = f32[1000,128]{1,0} parameter(0)
  %u = f32[1,128]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %d = f32[1000,128]{1,0} dynamic-update-slice(%t, %u, %i, %i)
}

%put_inside (t: f32[1000,128], u: f32[1,128], i: s32[]) -> f32[1000,128] {
  %t = f32[1000,128]{1,0} parameter(0)
  %u = f32[1,128]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = f32[1000,128]{1,0} fusion(%t, %u, %i), kind=kCustom, calls=%put
}

ENTRY %main (t: f32[1000,128], i: s32[4], u: f32[1,128], j: s32[]) -> f32[8] {
  %t = f32[1000,128]{1,0} parameter(0)
  %i = s32[4]{0} parameter(1)
  %u = f32[1,128]{1,0} parameter(2)
  %j = s32[] parameter(3)
  INSTRUCTION
}
"""


def _compiled(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  low = jax.jit(function).lower(*arguments)
  module = hlo.Module(low.compile().as_text())
  return flops.count(low), module


class OperationsTest(absltest.TestCase):
  def test_a_product_is_two_for_each_pair(self):
    (asked, certain), module = _compiled(
      lambda a, b: jnp.einsum('bij,bjk->bik', a, b), (3, 4, 5), (3, 5, 6)
    )
    self.assertEqual((dict(asked), certain), ({'f32': 2 * 3 * 4 * 5 * 6}, True))
    self.assertEqual(work.operations(module), asked)

  def test_cudnn_and_cublas_are_counted_as_what_they_do(self):
    counted = work.operations(hlo.Module(_CUDNN))
    # Along each side 4 places of 3, of which one meets padding: 11 pairs.
    convolution = 2 * 2 * 4 * 11 * 11 * 3
    self.assertEqual(counted['bf16'], 3 * convolution)
    self.assertEqual(counted['f32'], 2 * 16 * 8 * 32)

  def test_a_scan_counts_as_often_as_it_turns(self):
    def scanned(x, w):
      return jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]

    (asked, certain), module = _compiled(scanned, (4, 8), (8, 8))
    self.assertEqual((asked['f32'], certain), (5 * 2 * 4 * 8 * 8, True))
    self.assertEqual(work.operations(module)['f32'], asked['f32'])


class CostsTest(absltest.TestCase):
  def test_costs_of_instructions_add_up_to_those_of_the_program(self):
    def loss(x, w):
      return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, length=5)[0]

    _, module = _compiled(loss, (4, 8), (8, 8))
    costs = work.costs(module)
    operations = sum(cost.operations.total() for cost in costs.values())
    self.assertEqual(operations, work.operations(module).total())
    moved = sum(cost.bytes for cost in costs.values())
    self.assertEqual(moved, work.traffic(module))
    self.assertGreater(sum(cost.bytes > 0 for cost in costs.values()), 1)


class TrafficTest(parameterized.TestCase):
  @parameterized.named_parameters(
    # What a gather gives is read and written; and its four indices are read.
    ('a gather reads rows', '%x = f32[4,128]{1,0} fusion(%t, %i), '
     'kind=kLoop, calls=%take', 2 * 4 * 512 + 16),
    ('an update writes a row', '%x = f32[1000,128]{1,0} fusion(%t, %u, %j), '
     'kind=kLoop, calls=%put', 2 * 512 + 4),
    ('a fusion in a fusion writes in place', '%x = f32[1000,128]{1,0} '
     'fusion(%t, %u, %j), kind=kLoop, calls=%put_inside', 2 * 512 + 4),
    ('a slice reads a part', '%x = f32[1,128]{1,0} slice(%t), '
     'slice={[0:1], [0:128]}', 2 * 512),
    ('all is read and written', '%x = f32[1000,128]{1,0} negate(%t)',
     2 * 512_000),
    ('a scatter adds to rows', '%x = f32[1000,128]{1,0} scatter(%t, %i, %u), '
     'to_apply=%add', 16 + 512 + 2 * 512),
    ('a fast memory is not counted', '%x = f32[1000,128]{1,0:S(1)} negate(%t)',
     512_000),
    ('tiles are filled up', '%x = f32[1,128]{1,0:T(8,128)} negate(%u)',
     512 + 8 * 512),
    ('a name moves nothing', '%x = f32[128000]{0} bitcast(%t)', 0),
  )  # fmt: skip
  def test_bytes_that(self, instruction, moved):
    text = _MOVES.replace('INSTRUCTION', f'ROOT {instruction}')
    self.assertEqual(work.traffic(hlo.Module(text)), moved)


if __name__ == '__main__':
  absltest.main()
