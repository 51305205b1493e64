"""Tests of parsing: every field as Python reads it, and what is refused."""

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from input_pipelines.criteo import lines

_COUNT = st.one_of(
  st.just(''),
  st.integers(1 - 2**31, 2**31 - 1).map(str),
  st.integers(-9, 99).map(str),
)
_VALUE = st.one_of(
  st.just(''),
  st.integers(0, 2**32 - 1).map('{:08x}'.format),
  st.integers(0, 2**32 - 1).map('{:X}'.format),
)
_LINE = st.tuples(
  st.sampled_from(['0', '1', '']),
  st.lists(_COUNT, min_size=13, max_size=13),
  st.lists(_VALUE, min_size=26, max_size=26),
)
_WHOLE = '\t'.join(['1', *'0123456789', '-1', '', '3', *['0a'] * 26])


class ParseTest(parameterized.TestCase):
  @settings(max_examples=60, deadline=None)
  @given(st.lists(_LINE, min_size=1, max_size=5), st.booleans())
  def test_fields_are_those_that_python_reads(self, rows, ended):
    text = '\n'.join('\t'.join([a, *b, *c]) for a, b, c in rows)
    got = lines.parse((text + '\n' * ended).encode())
    self.assertLen(got, len(rows))
    np.testing.assert_array_equal(got.label, [int(a or 0) for a, _, _ in rows])
    np.testing.assert_array_equal(
      got.counts, [[int(f or 0) for f in b] for _, b, _ in rows]
    )
    np.testing.assert_array_equal(
      got.categories, [[int(f or '0', 16) for f in c] for _, _, c in rows]
    )

  @parameterized.parameters(
    '',
    _WHOLE.rpartition('\t')[0],  # short
    _WHOLE + '\t1',  # long
    _WHOLE.replace('1', '2', 1),  # neither clicked nor not
    _WHOLE.replace('1', '-', 1),
    _WHOLE.replace('5', '5-5', 1),
    _WHOLE.replace('5', 'a', 1),
    _WHOLE.replace('5', '5.0', 1),
    _WHOLE.replace('5', '2147483648', 1),
    _WHOLE.replace('0a', '-a', 1),
    _WHOLE.replace('0a', '0x', 1),
    _WHOLE.replace('0a', '123456789', 1),
    _WHOLE + '\r',
  )
  def test_a_line_of_something_else_is_named(self, line):
    text = '\n'.join([_WHOLE, _WHOLE, line, _WHOLE, ''])
    with self.assertRaisesRegex(ValueError, 'in line 12, got .* fields'):
      lines.parse(text.encode(), first=10)

  def test_tabs_and_ends_that_have_changed_places_are_noticed(self):
    one = _WHOLE.replace('\t', '\n', 1)
    other = f'{_WHOLE}\t{_WHOLE}'
    for text in (one + '\t', f'{one}\n{other}'):
      with self.assertRaisesRegex(ValueError, 'in line 1, got'):
        lines.parse(text.encode())


if __name__ == '__main__':
  absltest.main()
