"""Stands in for launch.speed: writes a point, or ends in the way it is told."""

import sys
import time

from suite.results import speed
from tests.suite.results import sample_speeds


def main(how, *more):
  """Ends as `how` says; --json=FILE is where a point goes."""
  if how == 'refused':
    print('warning: first\nerror: Unknown size', file=sys.stderr)
    return 2
  if how == 'memory' and '--hp=batch=8' not in more:
    print('error: RESOURCE_EXHAUSTED: 9 of 8 GiB\nbye', file=sys.stderr)
    return 1
  if how == 'sleeps':
    time.sleep(600)
  (path,) = (
    each.removeprefix('--json=') for each in more if each.startswith('--json=')
  )
  speed.write(path, [sample_speeds.point('resnet')], [])
  return 0


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
