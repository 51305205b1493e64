"""Tests of reading optimised programs."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp

from launch.aot import hlo

# A loop of five turns around a fusion, and one that does not say.
_LOOP = """HloModule m, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%p)
}

%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8]{0} get-tuple-element(%s), index=1
  %f = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %f)
}

%condition (s: (s32[], f32[8])) -> pred[] {
  %s = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %five = s32[] constant(5)
  ROOT %l = pred[] compare(%i, %five), direction=LT
}

%unclear (s: (s32[], f32[8])) -> pred[] {
  %s = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %l = pred[] custom-call(%i), custom_call_target="who_knows"
}

ENTRY %main (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %w = (s32[], f32[8]{0}) while(%s), condition=%condition, body=%body
  ROOT %v = (s32[], f32[8]{0}) while((s32[], f32[8]{0}) %w), CONDITION
}
"""


class ShapeTest(parameterized.TestCase):
  @parameterized.parameters(
    ('f32[]', 4, 4),
    ('bf16[7,3]{1,0}', 42, 42),
    ('pred[10]{0}', 10, 10),
    ('s4[3]{0}', 2, 2),
    ('f8e4m3fn[16]{0}', 16, 16),
    ('c64[2]{0}', 16, 16),
    ('s32[<=8]{0}', 32, 32),
    # Two rows of 128 fill a tile of eight; one number more, a tile more.
    ('f32[2,128]{1,0:T(8,128)}', 1024, 4096),
    ('f32[2,129]{1,0:T(8,128)S(1)}', 1032, 8192),
    # The tile lies on the fastest dimensions, wherever they are written.
    ('f32[128,2]{0,1:T(8,128)}', 1024, 4096),
    ('bf16[3]{0:T(1024)(128)(2,1)}', 6, 2048),
  )
  def test_bytes_of_numbers_and_where_they_lie(self, text, numbers, stored):
    array = hlo.parse_shape(text)
    self.assertEqual((array.bytes, array.stored_bytes), (numbers, stored))

  def test_a_tuple_in_a_tuple_is_taken_apart(self):
    shape = hlo.parse_shape('((f32[2]{0}, s32[]), /*index=1*/(u8[3]{0}))')
    self.assertEqual([a.dtype for a in hlo.leaves(shape)], ['f32', 's32', 'u8'])

  def test_the_memory_space_is_read(self):
    self.assertEqual(hlo.parse_shape('f32[8]{0:T(128)S(1)}').space, 1)
    self.assertEqual(hlo.parse_shape('f32[8]{0:T(128)}').space, 0)

  @parameterized.parameters('', 'tensor<2xf32>', '8')
  def test_what_is_no_shape_is_refused(self, text):
    with self.assertRaises(ValueError):
      hlo.parse_shape(text)

  def test_an_unknown_type_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'x9'):
      _ = hlo.parse_shape('x9[2]').bytes


class ModuleTest(parameterized.TestCase):
  def _executed(self, condition):
    module = hlo.Module(_LOOP.replace('CONDITION', condition))
    return [e for e in module.executed() if e.instruction.name == 'n']

  def test_a_loop_turns_as_often_as_its_bound_says(self):
    first, _ = self._executed('condition=%condition, body=%body')
    self.assertEqual((first.times, first.certain, first.fused), (5, True, True))

  def test_a_noted_count_is_taken(self):
    note = 'backend_config={"known_trip_count":{"n":"7"},"x":"a, b={"}'
    _, second = self._executed(f'condition=%unclear, body=%body, {note}')
    self.assertEqual((second.times, second.certain), (7, True))

  def test_a_loop_that_does_not_say_is_counted_once_and_marked(self):
    _, second = self._executed('condition=%unclear, body=%body')
    self.assertEqual((second.times, second.certain), (1, False))

  def test_attributes_end_at_the_next_one(self):
    module = hlo.Module(
      'ENTRY e {\n  a = f32[2]{0} parameter(0)\n'
      '  ROOT b = f32[2]{0} reverse(a), dimensions={0,1}, '
      'metadata={op_name="x, dimensions={9}"}\n}\n'
    )
    root = module.computations['e'].root
    self.assertEqual(root.attribute('dimensions'), '{0,1}')
    self.assertEqual(root.operands, ('a',))
    self.assertIsNone(root.attribute('window'))

  def test_what_is_no_program_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'entry'):
      hlo.Module('a text\n')

  def test_a_compiled_program_is_read_whole(self):
    def scan(x):
      return jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, length=6)[0]

    text = jax.jit(scan).lower(jnp.ones((4, 4))).compile().as_text()
    times = {
      each.instruction.opcode: each.times
      for each in hlo.Module(text).executed()
    }
    self.assertEqual(times['while'], 1)
    # The product is in the loop, or is what the CPU calls for it.
    self.assertEqual(max(times.values()), 6)


if __name__ == '__main__':
  absltest.main()
