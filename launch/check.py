"""Audits a log, a folder of runs, or a whole submission, ours or anyone's.

python -m launch.check results/first/result_0.txt
python -m launch.check results/first
python -m launch.check --ruleset=4.0.0 submissions/acme

It finds out by itself which of these it is: a log, a system description
(.json), a folder of logs, a folder of such folders, or a submission (systems/
and results/, of one organisation or several). Prints a line for each kind of
finding, the most serious first: its severity, the file and line of the first,
what was expected, what was found, the rule in brackets, and how many there are
(--verbose prints each); then a line on each folder of logs; then whether what
lies there stands. Nothing is written but the file that --json names, and no
link is followed. Exit code: 0 nothing wrong (warnings may stand), 1 errors
(with --werror also warnings), 2 no such path or flag.
"""

import dataclasses
import sys

from absl import flags as absl_flags

from launch.support import cli
from launch.support.live_line import LiveLine
from suite import files, names
from suite.results import audit
from suite.results.audit.findings import printable

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_bool('werror', False, 'Count warnings as errors.')
  absl_flags.DEFINE_bool(
    'verbose', False, 'Print every finding, not one of each kind.'
  )
  absl_flags.DEFINE_string('json', '', 'File to write every finding to.')
  absl_flags.DEFINE_string(
    'ruleset',
    None,
    'The official ruleset that logs are held to, as 4.0.0; by default the one '
    'that each log names or fits.',
  )


def main(
  path: str,
  *,
  werror: bool,
  ruleset: str | None = None,
  verbose: bool = False,
  json: str = '',
) -> int:
  """Prints what is wrong at `path`; returns the exit code."""
  line = LiveLine(sys.stderr)
  found = audit.examine(
    path, ruleset=ruleset, tell=lambda text: line.show(printable(text))
  )
  line.clear()
  errors = tell(found, verbose=verbose)
  warnings = len(found.findings) - errors
  failed = bool(errors or (werror and warnings))
  if json:
    files.write_json(json, _content(path, found, passed=not failed))
  print(
    f'{"FAILED" if failed else "PASSED"}: {names.counted(errors, "error")}, '
    f'{names.counted(warnings, "warning")} in {path}; {_stands(found, werror)}'
  )
  return 1 if failed else 0


def tell(found: audit.FolderAudit, *, verbose: bool = True) -> int:
  """Prints what an audit found; returns the number of errors."""
  kinds = audit.kinds(found.findings, first=audit.DECISIVE)
  for each in found.findings if verbose else kinds:
    print(each)
  for note in found.notes:
    print(printable(note))
  return len(audit.errors(found.findings))


def _stands(found: audit.FolderAudit, werror: bool) -> str:
  """The verdict in words: it stands, or the faults without which it would."""
  against = found.findings if werror else audit.errors(found.findings)
  if not against:
    return 'it stands as it is'
  rules = dict.fromkeys(
    kind.first.rule for kind in audit.kinds(against, first=audit.DECISIVE)
  )
  return f'it would stand without these faults: {printable(", ".join(rules))}'


def _content(path: str, found: audit.FolderAudit, *, passed: bool) -> dict:
  return {
    'path': path,
    'passed': passed,
    'findings': [dataclasses.asdict(finding) for finding in found.findings],
    'notes': list(found.notes),
  }


if __name__ == '__main__':
  cli.run(
    lambda path: main(
      path,
      werror=FLAGS.werror,
      ruleset=FLAGS.ruleset,
      verbose=FLAGS.verbose,
      json=FLAGS.json,
    ),
    define=define_flags,
    path_to='a log, a folder of logs or a submission',
  )
