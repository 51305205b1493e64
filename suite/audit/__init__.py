"""The audit of logs: stricter than the official tools, and in plain words.

What a benchmark's log must hold follows from its declaration; there is no
second table of rules here. The checks come in classes: `order`, `timing`,
`quality`, `settings` for one log, `runs` for the logs of a folder.
"""

import os

from suite import benchmark as benchmark_lib
from suite.audit import one, runs
from suite.audit.claim import Lookup
from suite.audit.findings import ERROR, WARNING, Finding, errors
from suite.audit.one import LogAudit, LogSummary
from suite.audit.quality import Eval
from suite.audit.runs import SetAudit

__all__ = [
  'ERROR', 'WARNING', 'Eval', 'Finding', 'LogAudit', 'LogSummary', 'SetAudit',
  'check_log', 'check_set', 'errors', 'examine_log', 'examine_set',
]  # fmt: skip


def check_log(
  path: str | os.PathLike, *, get: Lookup = benchmark_lib.get
) -> list[Finding]:
  """What is wrong with one log, in the order of its lines."""
  return list(examine_log(path, get=get).findings)


def check_set(
  directory: str | os.PathLike, *, get: Lookup = benchmark_lib.get
) -> list[Finding]:
  """What is wrong with the `result_<i>.txt` of a folder, alone and together."""
  return list(examine_set(directory, get=get).findings)


def examine_log(
  path: str | os.PathLike, *, get: Lookup = benchmark_lib.get
) -> LogAudit:
  """The same as `check_log`, with a summary of the run."""
  return one.examine(path, get)


def examine_set(
  directory: str | os.PathLike, *, get: Lookup = benchmark_lib.get
) -> SetAudit:
  """The same as `check_set`, with the summary of every run."""
  return runs.examine(directory, get)
