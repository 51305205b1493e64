"""The study of published rounds, on a round that the test writes."""

import os
import subprocess
import sys

from absl.testing import absltest

from suite import files
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find


class AuditPublishedTest(absltest.TestCase):
  """Two sets, of which one did not clear its caches."""

  def test_it_counts_errors_false_alarms_and_scores(self):
    root = audit_logs.directory(self)
    for name in ('first', 'second'):
      submissions.write_set(root / name / 'resnet')
    events = submissions.events(run=0)
    find(events, 'cache_clear').value = False
    audit_logs.write(root / 'second' / 'resnet' / 'result_0.txt', events)
    script = os.path.join(files.ROOT, 'studies', 'audit_published.py')
    found = subprocess.run(
      [sys.executable, script, '--official', '--ruleset=4.0.0', root],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    self.assertIn('second/resnet (officially accepted): error', found)
    self.assertIn('2 sets, 1 with an error (1 officially accepted); ', found)
    self.assertIn('2 scored, 0 otherwise', found)


if __name__ == '__main__':
  absltest.main()
