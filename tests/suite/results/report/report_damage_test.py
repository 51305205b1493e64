"""A report on damaged records is written, or refused by the file's name."""

import copy
import json
import pathlib
import random

from absl.testing import absltest, parameterized

from launch import report
from tests.suite.results import sample_results

_VALUES = (
  None, True, 0, -1, 1.5, 1e308, 10**30, '', 'x', '\ud800', '\0', '<b>', [],
  {}, [None], [[]], {'': None}, {'x': -1}, [1e308, -1e308],
)  # fmt: skip


def _places(value, at=()):
  """Paths of keys to everything within a value of JSON."""
  if at:
    yield at
  if isinstance(value, dict):
    for key, each in value.items():
      yield from _places(each, (*at, key))
  elif isinstance(value, list):
    for key, each in enumerate(value[:12]):  # losses are many, and alike
      yield from _places(each, (*at, key))


def _damaged(value, rng):
  """The value without one of its parts, or with another in its place."""
  value = copy.deepcopy(value)
  *folders, last = rng.choice(list(_places(value)))
  inside = value
  for key in folders:
    inside = inside[key]
  if rng.random() < 0.25:
    del inside[last]
  else:
    inside[last] = rng.choice(_VALUES)
  return value


def _bytes_damaged(text, rng):
  """The text cut off, or with a byte of it changed."""
  content = bytearray(text.encode())
  at = rng.randrange(len(content))
  if rng.random() < 0.3:
    return bytes(content[:at])
  content[at] = rng.randrange(256)
  return bytes(content)


class DamageTest(parameterized.TestCase):
  @parameterized.parameters(range(6))
  def test_no_damage_ends_in_another_error(self, seed):
    rng = random.Random(seed)
    results = sample_results.results(3)
    whole = {f'run_{i}.json': result for i, result in enumerate(results)}
    whole['score.json'] = sample_results.score(results)
    folder = pathlib.Path(self.create_tempdir().full_path)
    for name, value in whole.items():
      (folder / name).write_text(json.dumps(value))
    written = 0
    for _ in range(30):
      name = rng.choice(['run_0.json', 'run_1.json', 'score.json'])
      before = json.dumps(whole[name])
      if rng.random() < 0.8:
        content = json.dumps(_damaged(whole[name], rng)).encode()
      else:
        content = _bytes_damaged(before, rng)
      (folder / name).write_bytes(content)
      try:
        report.write(folder)
        written += 1
      except ValueError as error:
        # Runs of different kinds are those of a folder.
        self.assertRegex(str(error), rf'{name}|of one \w+ in {folder}', content)
      (folder / name).write_text(before)
    self.assertBetween(written, 1, 29)
    report.write(folder)


if __name__ == '__main__':
  absltest.main()
