"""Day files in the real format, small, with all that real lines have."""

import gzip
import os

import numpy as np


def days() -> list[list[bytes]]:
  """The lines of 24 days: missing fields, negative integers, values twice."""
  draws = np.random.RandomState(24)  # the same numbers for ever
  pools = [draws.randint(0, 2**32, 5 + 7 * c, np.int64) for c in range(26)]
  pools[3][0], pools[3][1] = 7, 40_000_007  # one value, modulo 40,000,000
  found = []
  for day in range(24):
    lines = []
    for _ in range(20 + day % 7):
      fields = [str(int(draws.rand() < 0.3))]
      for column in range(13):
        count = int(np.exp(draws.normal(1, 2))) - 1 - (day == 5)
        if column == 4 and draws.rand() < 0.1:
          count = draws.randint(10**8, 2**31 - 3)
        fields.append('' if draws.rand() < 0.2 else str(count))
      for pool in pools:
        value = pool[draws.randint(len(pool))]
        fields.append('' if draws.rand() < 0.1 else f'{value:08x}')
      lines.append('\t'.join(fields).encode())
    found.append(lines)
  return found


def write(folder: str) -> None:
  """Writes them as day_0 to day_23, every third one compressed."""
  for day, lines in enumerate(days()):
    path, text = os.path.join(folder, f'day_{day}'), b'\n'.join([*lines, b''])
    if day % 3 == 1:
      with gzip.open(f'{path}.gz', 'wb') as file:
        file.write(text)
    else:
      with open(path, 'wb') as file:
        file.write(text)
