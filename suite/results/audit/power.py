"""Audits measurements of power: a folder of each run, a file of each node."""

from collections.abc import Iterator, Sequence
import re

from suite.results.audit.tree import Tree

_FILE = re.compile(r'(node|sw)_([0-9]{1,6})(\.[A-Za-z0-9]+)?')


def check(
  tree: Tree, folder: str, logs: Sequence[str]
) -> Iterator[tuple[str, str]]:
  """Finds faults of a folder `power`: paths and texts.

  `logs` are the names of the runs, as in result_0.
  """
  counts: dict[str, tuple[int, int]] = {}
  for log in logs:
    inside = f'{folder}/{log}'
    if inside not in tree.folders:
      yield folder, f'expected a folder {log}, got none'
      continue
    numbers: dict[str, list[int]] = {'node': [], 'sw': []}
    for path in tree.children(inside):
      match = _FILE.fullmatch(path.rpartition('/')[2])
      if match:
        numbers[match[1]].append(int(match[2]))
      else:
        yield path, 'expected node_<number> or sw_<number>, got another name'
    for what, found in numbers.items():
      if sorted(found) != list(range(len(found))):
        text = f'expected {what}_<number> from 0 without a gap'
        yield inside, f'{text}, got {sorted(found)[:10]}'
    counts[log] = (len(numbers['node']), len(numbers['sw']))
  if len(set(counts.values())) > 1:
    first = next(iter(counts.items()))
    other = next(item for item in counts.items() if item[1] != first[1])
    text = 'expected as many nodes and switches in every run'
    yield (
      folder,
      f'{text}, got {first[1]} in {first[0]}, {other[1]} in {other[0]}',
    )
