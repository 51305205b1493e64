"""Tests that lines read quickly are what the exact parser reads."""

import json

from absl.testing import absltest, parameterized

from suite.results.audit import record as record_lib
from tests import ids

_START = record_lib.TOKEN + b' '
_USUAL = {
  'namespace': '',
  'time_ms': 1_700_000_000_123,
  'event_type': 'POINT_IN_TIME',
  'key': 'eval_accuracy',
  'value': 0.75,
  'metadata': {'file': 'train.py', 'lineno': 7, 'epoch_num': 4},
}


def _body(**changes) -> bytes:
  return json.dumps(_USUAL | changes).encode()


def _exact(body: bytes) -> tuple | None:
  """What the exact parser makes of a line; None where it refuses it."""
  try:
    record = record_lib.parse(3, _START + body, False)
  except record_lib.Malformed:
    return None
  return record.time_ms, record[2:]


def _quick(body: bytes, usual: record_lib.Usual) -> tuple | None:
  """As the log does: what is not usual is read exactly."""
  return usual.read(body, spaced=True) or _exact(body)


_LINES = {
  'as usual': _body(),
  'its end': _body() + b'\n',
  'a count': _body(value=8),
  'no value': _body(value=None),
  'a list': _body(value=[1, 2.5, None, 'x']),
  'an object': _body(value={'loss': 2.5, 'steps': 7}),
  'nested values': _body(value={'a': {'b': [1, {'c': 2}]}}),
  'deep values': _body(value=[[[[[[[[[[1]]]]]]]]]]),
  'an integer beyond 64 bits': _body(value=2**64),
  'one below them': _body(value=-(2**63) - 1),
  'one in a list': _body(value=[2**70]),
  'one in an object': _body(value={'a': 2**70}),
  'one in the metadata': _body(metadata={'epoch_num': 2**70}),
  'one that no float holds': _body(metadata={'epoch_num': 10**400}),
  'one as the time': _body(time_ms=2**70),
  'a time of a float': _body(time_ms=1_700_000_000_123.5),
  'a time of a text': _body(time_ms='1700000000123'),
  'a true time': _body(time_ms=True),
  'a large float': _body(value=1e300),
  'NaN': _body(value=float('nan')),
  'infinity': _body(value=float('inf')),
  'half a surrogate': _body().replace(b'train', b'tr\\ud800in'),
  'no UTF-8': _body().replace(b'train', b'tr\xff\xfein'),
  'other letters': _body(value='Genève').replace(b'train', b'tra\xc3\xafn'),
  'a name twice': _body().replace(b'"namespace"', b'"value"'),
  'a name twice, spaced': _body().replace(b'"namespace":', b'"value" :'),
  'a name twice, with a tab': _body().replace(b'"namespace":', b'"value"\t:'),
  'a name twice in the value': _body(value={'a': 1, 'b': 2}).replace(
    b'"b"', b'"a"'
  ),
  'a name twice, and a colon in a text': _body(value='":').replace(
    b'"namespace":', b'"value" :'
  ),
  'a colon in a text': _body(value='a "quoted": text'),
  'time in a text': _body(namespace='"time_ms": 1700000000123,'),
  'time in the metadata': _body(metadata={'time_ms': 1_700_000_000_999}),
  'no key': _body(key=None),
  'a long key': _body(key='k' * 300),
  'no metadata': _body(metadata=None),
  'metadata of a list': _body(metadata=[]),
  'a list in the metadata': _body(metadata={'epoch_num': [1], 'x': 2}),
  'unknown metadata': _body(metadata={'epoch_num': 2, 'step': 7}),
  'a long text in the metadata': _body(metadata={'file': 'x' * 1000}),
  'a longer one': _body(metadata={'file': 'x' * 5000}),
  'a long value': _body(value='x' * 3000),
  'a setting of a long value': _body(key='opt_name', value='x' * 3000),
  'a long list': _body(key='opt_name', value=list(range(9000))),
  'no event type': _body(event_type=None),
  'a number as event type': _body(event_type=2**70),
  'more after its end': _body() + b' x',
  'two on a line': _body() + b',' + _body(),
  'a text': b'"text"',
  'a number': b'3',
  'nothing': b'',
  'half of it': _body()[:50],
}


class RecordTest(parameterized.TestCase):
  @ids.each(_LINES)
  def test_quick_is_exact(self, name):
    body = _LINES[name]
    expected = repr(_exact(body))
    usual = record_lib.Usual()
    with self.subTest('first'):
      self.assertEqual(repr(_quick(body, usual)), expected)
    with self.subTest('again'):  # now it may know the line
      self.assertEqual(repr(_quick(body, usual)), expected)

  def test_usual_lines_are_quick(self):
    for name in ('as usual', 'its end', 'a list', 'an object', 'no value'):
      with self.subTest(name):
        found = record_lib.Usual().read(_LINES[name], spaced=False)
        self.assertIsNotNone(found)

  def test_a_known_line_keeps_its_own_time(self):
    usual = record_lib.Usual()
    usual.read(_body(value=8), spaced=False)
    later = 1_700_000_009_999
    found = usual.read(_body(value=8, time_ms=later), spaced=False)
    self.assertEqual(found[0], later)

  @ids.each(['+700000000123', '1_70000000123', ' 70000000012 ', '0700000000123',
             '1.70000000012', '17000000001234', '170000000012'])  # fmt: skip
  def test_a_known_line_with_another_number(self, digits):
    usual = record_lib.Usual()
    for known in (_body(value=8), _body(value=8, time_ms=1_700_000_000_456)):
      usual.read(known, spaced=False)
    body = _body(value=8).replace(b'1700000000123', digits.encode())
    self.assertEqual(repr(_quick(body, usual)), repr(_exact(body)))


if __name__ == '__main__':
  absltest.main()
