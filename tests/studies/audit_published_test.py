"""The study of published rounds, on a round that the test writes."""

import contextlib
import io

from absl.testing import absltest, flagsaver

from studies import audit_published as study
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
    out = io.StringIO()
    with (
      contextlib.redirect_stdout(out),
      flagsaver.flagsaver(official=True, ruleset='4.0.0'),
    ):
      study.main(['', str(root)])
    found = out.getvalue()
    self.assertIn('second/resnet (officially accepted): error', found)
    self.assertIn('2 sets, 1 with an error (1 officially accepted); ', found)
    self.assertIn('2 scored, 0 otherwise', found)


if __name__ == '__main__':
  absltest.main()
