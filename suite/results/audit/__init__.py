"""The audit of logs: stricter than the official tools, and in plain words.

What a log must hold follows from the benchmark's declaration here and from the
official rules of its round; there is no third table of rules. The checks come
in classes: `order`, `timing`, `quality`, `settings` for one log, `runs` for the
logs of a folder, `folder`, `tree`, `system` and `power` for a submission.
"""

from collections.abc import Callable
import os

from suite import benchmark as benchmark_lib
from suite.results.audit import folder, one, runs
from suite.results.audit.claim import Lookup
from suite.results.audit.findings import ERROR, WARNING, Finding, errors
from suite.results.audit.folder import FolderAudit
from suite.results.audit.one import LogAudit, LogSummary
from suite.results.audit.quality import Eval
from suite.results.audit.runs import SetAudit

__all__ = [
  'ERROR', 'WARNING', 'Eval', 'Finding', 'FolderAudit', 'LogAudit',
  'LogSummary', 'SetAudit', 'check_log', 'check_set', 'errors', 'examine',
  'examine_log', 'examine_set',
]  # fmt: skip


def check_log(
  path: str | os.PathLike,
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> list[Finding]:
  """What is wrong with one log, in the order of its lines."""
  return list(examine_log(path, get=get, ruleset=ruleset).findings)


def check_set(
  directory: str | os.PathLike,
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> list[Finding]:
  """What is wrong with the `result_<i>.txt` of a folder, alone and together."""
  return list(examine_set(directory, get=get, ruleset=ruleset).findings)


def examine_log(
  path: str | os.PathLike,
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> LogAudit:
  """The same as `check_log`, with a summary of the run."""
  return one.examine(path, get, ruleset)


def examine_set(
  directory: str | os.PathLike,
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str | None = None,
) -> SetAudit:
  """The same as `check_set`, with the summary of every run."""
  return runs.examine(directory, get, ruleset=ruleset)


def examine(
  path: str | os.PathLike,
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str | None = None,
  tell: Callable[[str], None] = lambda text: None,
) -> FolderAudit:
  """Audits whatever lies at a path, and finds out by itself what that is.

  A log, a system description (.json), a folder of runs, a folder of such
  folders, or a submission of one or several organisations. `ruleset` is the
  official one that the logs are held to, by default what each fits; `tell` is
  told what is being read. ValueError for a ruleset that does not exist.
  """
  return folder.audit(path, get, ruleset=ruleset, tell=tell)
