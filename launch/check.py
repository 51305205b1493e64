"""Audits a log, a folder of runs, or a whole submission, ours or anyone's.

python -m launch.check results/first/result_0.txt
python -m launch.check results/first
python -m launch.check --ruleset=4.0.0 submissions/acme

It finds out by itself which of these it is: a log, a system description
(.json), a folder of logs, a folder of such folders, or a submission (systems/
and results/, of one organisation or several). Prints one finding a line: its
severity, file and line, what was expected, what was found, and the rule in
brackets; then a line on each folder of logs. Nothing is written, and no link is
followed. Exit code: 0 nothing wrong (warnings may stand), 1 errors (with
--werror also warnings), 2 no such path or flag.
"""

import sys

from absl import flags as absl_flags

from launch.support import cli
from launch.support.live_line import LiveLine
from suite import names
from suite.results import audit
from suite.results.audit.findings import printable

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_bool('werror', False, 'Count warnings as errors.')
  absl_flags.DEFINE_string(
    'ruleset',
    None,
    'The official ruleset that logs are held to, as 4.0.0; by default the one '
    'that each log names or fits.',
  )


def main(path: str, *, werror: bool, ruleset: str | None = None) -> int:
  """Prints what is wrong at `path`; returns the exit code."""
  line = LiveLine(sys.stderr)
  found = audit.examine(
    path, ruleset=ruleset, tell=lambda text: line.show(printable(text))
  )
  line.clear()
  errors = tell(found)
  warnings = len(found.findings) - errors
  failed = errors or (werror and warnings)
  print(
    f'{"FAILED" if failed else "PASSED"}: {names.counted(errors, "error")}, '
    f'{names.counted(warnings, "warning")} in {path}'
  )
  return 1 if failed else 0


def tell(found: audit.FolderAudit) -> int:
  """Prints what an audit found; returns the number of errors."""
  for finding in found.findings:
    print(finding)
  for note in found.notes:
    print(printable(note))
  return len(audit.errors(found.findings))


if __name__ == '__main__':
  cli.run(
    lambda path: main(path, werror=FLAGS.werror, ruleset=FLAGS.ruleset),
    define=define_flags,
    path_to='a log, a folder of logs or a submission',
  )
