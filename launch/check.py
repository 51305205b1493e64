"""Audits one log, or a folder of logs that are to be one result.

python -m launch.check results/first/result_0.txt
python -m launch.check results/first

Prints one finding a line: its severity, file and line, what was expected and
what came, and the rule in brackets. Exit code: 0 nothing wrong (warnings may
stand), 1 errors (with --werror also warnings), 2 no such path or flag.
"""

import os

from absl import flags as absl_flags

from launch import flags
from suite import audit

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_bool('werror', False, 'Count warnings as errors.')


def main(path: str, *, werror: bool) -> int:
  """Prints what is wrong at `path`; returns the exit code."""
  findings = (
    audit.check_set(path) if os.path.isdir(path) else audit.check_log(path)
  )
  for finding in findings:
    print(finding)
  errors = len(audit.errors(findings))
  warnings = len(findings) - errors
  failed = errors or (werror and warnings)
  print(
    f'{path}: {"not in order" if failed else "in order"}, '
    f'{counted(errors, "error")}, {counted(warnings, "warning")}'
  )
  return 1 if failed else 0


def counted(number: int, noun: str) -> str:
  """'no errors', '1 error', '2 errors'."""
  return f'{number or "no"} {noun}{"" if number == 1 else "s"}'


if __name__ == '__main__':
  flags.run(
    lambda path: main(path, werror=FLAGS.werror),
    define=define_flags,
    path_to='a log or a folder of logs',
  )
