"""Tests of changing a feature of records."""

from absl.testing import absltest
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines.writing import examples


def _record(**features):
  example = tf_example_pb2.Example()
  for name, value in features.items():
    example.features.feature[name].bytes_list.value.append(value)
  return example.SerializeToString()


class ChangedTest(absltest.TestCase):
  def test_one_feature_is_changed_and_no_other(self):
    change = examples.changed('image', bytes.upper)
    got = tf_example_pb2.Example.FromString(
      change(_record(image=b'abc', name=b'abc'))
    )
    expected = _record(image=b'ABC', name=b'abc')
    self.assertEqual(got, tf_example_pb2.Example.FromString(expected))

  def test_a_record_without_the_feature_is_refused(self):
    with self.assertRaisesRegex(ValueError, "one value of 'image'.*got 0"):
      examples.changed('image', bytes.upper)(_record(name=b'abc'))

  def test_what_is_no_record_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected an Example'):
      examples.changed('image', bytes.upper)(b'\xff\xff\xff')


if __name__ == '__main__':
  absltest.main()
