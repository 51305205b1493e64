"""Audits logs: stricter than the official tools, and in plain words.

What a log must hold follows from the benchmark's declaration and from the
official rules of its round; there is no third table of rules. The checks come
in classes: `order`, `timing`, `quality`, `settings`, `plausible` for one log,
`runs` for the logs of a folder, `folder`, `tree`, `system` and `power` for a
submission.
"""

from suite.results.audit.findings import (
  ERROR,
  WARNING,
  Finding,
  Kind,
  errors,
  kinds,
)
from suite.results.audit.folder import FolderAudit, examine
from suite.results.audit.one import DECISIVE, LogAudit, examine_log
from suite.results.audit.quality import Eval
from suite.results.audit.runs import SetAudit, examine_runs, examine_set

__all__ = [
  'DECISIVE', 'ERROR', 'WARNING', 'Eval', 'Finding', 'FolderAudit', 'Kind',
  'LogAudit', 'SetAudit', 'errors', 'examine', 'examine_log', 'examine_runs',
  'examine_set', 'kinds',
]  # fmt: skip
