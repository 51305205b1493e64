"""Compares the factor that the official tool leaves in a folder of logs."""

import json

from suite import files
from suite.results.audit.runs import SetAudit
from suite.results.audit.tree import Tree

_MAX_BYTES = 1 << 16
_SLACK = 1e-6  # of a factor that was computed from the same numbers


def fault(tree: Tree, path: str, checked: SetAudit) -> str | None:
  """Fault of a scaling.json: it has to hold the factor that the logs give.

  It is compared and never used: times are normalised by what the logs say.
  """
  try:
    given = _read(tree, path)
  except (OSError, ValueError, RecursionError) as error:
    return f'cannot be read: {error}'[:200]
  ours = checked.compared.factor
  if abs(given - ours) <= _SLACK * ours:
    return None
  text = f'expected the factor {ours:.6g} of the logs (ruleset'
  return f'{text} {checked.ruleset}), got {given:.6g}; it was not used'


def _read(tree: Tree, path: str) -> float:
  if path not in tree.files:
    raise ValueError('expected a file, got another kind')
  content = files.read_bytes(tree.root / path, _MAX_BYTES, links=False)
  fields = json.loads(content)
  given = fields.get('scaling_factor') if isinstance(fields, dict) else None
  if not files.is_number(given):
    raise ValueError('expected scaling_factor with a number, got none')
  return given
