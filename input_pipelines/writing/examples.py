"""Changes one feature of serialized Examples."""

from collections.abc import Callable

from google.protobuf import message
from tensorflow_datasets.proto import tf_example_pb2


def changed(
  feature: str, change: Callable[[bytes], bytes]
) -> Callable[[bytes], bytes]:
  """From a record to the same record with one feature of bytes changed.

  Args:
    feature: the name of the feature.
    change: is given its value and returns the new one.

  Returns:
    A function of a serialized Example. ValueError if it is none, or lacks the
    feature.
  """

  def change_record(record: bytes) -> bytes:
    try:
      example = tf_example_pb2.Example.FromString(record)
    except message.DecodeError as error:
      raise ValueError(f'Expected an Example, got: {error}') from error
    values = example.features.feature[feature].bytes_list.value
    if len(values) != 1:
      raise ValueError(
        f'Expected one value of {feature!r} in the record, got {len(values)}.'
      )
    values[0] = change(values[0])
    return example.SerializeToString()

  return change_record
