r"""Makes a submission of results: logs, system description, source, README.

python -m launch.package --results=results/first --results=results/second \
  --submitter=acme --system=acme_h200x8 --description=rest.json \
  --output=submissions/acme

Every folder of results is audited first, as launch.check does, and the finished
tree again: it is put in place when it is free of errors, and nothing is
overwritten. The description of the system comes from what the runs recorded;
fields that a machine does not tell are asked for, all at once. Results that
are not official benchmarks need --unofficial, and say so everywhere. Exit code:
0 written, 1 the audit found errors, 2 refused.
"""

from collections.abc import Sequence
import json

from absl import flags as absl_flags

from launch import check
from launch.support import cli, sources
from suite import benchmark as benchmark_lib
from suite import names
from suite.results import audit, submission
from suite.results.audit import system
from suite.results.audit.claim import Lookup

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_multi_string(
    'results', [], 'A folder of runs; may be given again.'
  )
  absl_flags.DEFINE_string('output', '', 'The folder to be made.')
  absl_flags.DEFINE_string(
    'submitter', '', 'Who submits; by default the submission_org of the logs.'
  )
  absl_flags.DEFINE_string(
    'system', '', 'Name of the system, of its folder and its description.'
  )
  absl_flags.DEFINE_string(
    'description', '', 'A JSON file with fields of the system description.'
  )
  absl_flags.DEFINE_multi_string(
    'field', [], 'A field of the system description as name=value.'
  )
  absl_flags.DEFINE_bool(
    'unofficial', False, 'Lay out results that are no official benchmarks.'
  )


def main(*, get: Lookup = benchmark_lib.get) -> int:
  """Makes the submission; see the module."""
  for name in ('results', 'output', 'system'):
    if not FLAGS[name].value:
      raise ValueError(f'--{name} is needed.')
  given = given_fields(FLAGS.description, FLAGS.field)
  results = [submission.gather(folder, get=get) for folder in FLAGS.results]
  if _refuse(results):
    return 1
  submission.require_alike(results, unofficial=FLAGS.unofficial)
  description = submission.describe(
    results, given, submitter=_submitter(results), name=FLAGS.system
  )
  found = submission.write(
    FLAGS.output,
    results,
    description,
    lambda to: sources.copy(to, _commit(results)),
    system=FLAGS.system,
    get=get,
  )
  return _tell(found)


def given_fields(path: str, texts: Sequence[str]) -> dict[str, str]:
  """Fields from a JSON file and from name=value texts, which come last."""
  fields = {}
  if path:
    try:
      fields = system.parse(path)
    except (OSError, ValueError) as error:
      raise ValueError(f'--description={path}: {error}') from None
  for name, value in fields.items():
    if not isinstance(value, str):
      raise ValueError(
        f'--description={path}: expected {name} as a string, got '
        f'{json.dumps(value)}.'
      )
  return fields | dict(names.assignment('field', text) for text in texts)


def _refuse(results: Sequence[submission.Result]) -> bool:
  """Prints the errors of the results; returns whether there are any."""
  bad = False
  for result in results:
    errors = audit.errors(result.checked.findings)
    for finding in errors:
      print(f'{result.directory}: {finding}')
    bad = bad or bool(errors)
  if bad:
    print('FAILED: nothing was written, the results have errors.')
  return bad


def _submitter(results: Sequence[submission.Result]) -> str:
  org = FLAGS.submitter or results[0].setting('submission_org')
  if not isinstance(org, str) or org == 'unofficial':
    raise ValueError('--submitter is needed: the logs name nobody.')
  return org


def _commit(results: Sequence[submission.Result]) -> str:
  """The commit that all runs were made from, or 'unknown'."""
  commits = {
    str(record.versions.get('commit'))
    for result in results
    for record in result.records.values()
  }
  return commits.pop() if len(commits) == 1 else 'unknown'


def _tell(found: audit.FolderAudit) -> int:
  if errors := check.tell(found):
    counted = names.counted(errors, 'error')
    print(
      f'FAILED: nothing was written, the audit of the tree found {counted}.'
    )
    return 1
  print(f'Submission: {FLAGS.output}')
  return 0


if __name__ == '__main__':
  cli.run(main, define=define_flags)
