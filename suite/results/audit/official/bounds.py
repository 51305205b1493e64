"""Reads targets and lists of names from official conditions."""

import ast

from suite.results.audit.official import expressions
from suite.results.audit.official.rules import File
from suite.target import Target

_AT_LEAST = (ast.Gt, ast.GtE)
_AT_MOST = (ast.Lt, ast.LtE)


def target(file: File) -> Target | None:
  """The target of a benchmark; None where its condition is not a plain one.

  A bound that only keeps a value plausible is none: accuracies below 1, losses
  above 0, and the lower one of two bounds on a loss.
  """
  state = dict(_constants(file))
  at_least: dict[str, float] = {}
  at_most: dict[str, float] = {}
  for rule in file.rules.values():
    if rule.at_least_one is None or not rule.key.endswith('eval_accuracy'):
      continue
    for name, above, number in _bounds(rule.at_least_one.tree, state):
      (at_least if above else at_most)[name] = number
  for name in at_least.keys() & at_most.keys():
    # 'in [0.759, 1)' is an accuracy, '(2.6, 2.69]' and '(0, 3.3]' are losses.
    accuracy = at_most[name] == 1 and at_least[name] > 0
    del (at_most if accuracy else at_least)[name]
  return Target(at_least, at_most) if at_least or at_most else None


def listed(tree: ast.expr) -> list[str]:
  """All texts of the lists in a condition."""
  return [
    item.value
    for node in ast.walk(tree)
    if isinstance(node, ast.List)
    for item in node.elts
    if isinstance(item, ast.Constant) and isinstance(item.value, str)
  ]


def _constants(file: File):
  state: dict = {}
  expressions.run(file.begin, expressions.Scope(state))
  yield from state.items()


def _bounds(tree: ast.expr, state: dict) -> list[tuple[str, bool, float]]:
  """(metric, is it a lower bound, number) of a conjunction of comparisons."""
  if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
    return [bound for part in tree.values for bound in _bounds(part, state)]
  if not isinstance(tree, ast.Compare):
    return []
  found, left = [], tree.left
  for kind, right in zip(tree.ops, tree.comparators, strict=True):
    name, number = _metric(left), _number(right, state)
    if name and number is not None and isinstance(kind, _AT_LEAST + _AT_MOST):
      found.append((name, isinstance(kind, _AT_LEAST), number))
    name, number = _metric(right), _number(left, state)
    if name and number is not None and isinstance(kind, _AT_LEAST + _AT_MOST):
      found.append((name, isinstance(kind, _AT_MOST), number))
    left = right
  return found


def _metric(tree: ast.expr) -> str | None:
  """v['value'] -> 'eval_accuracy', v['value']['BBOX'] -> 'BBOX'."""
  source = ast.unparse(tree)
  if source == "v['value']":
    return 'eval_accuracy'
  if source.startswith("v['value']['"):
    return tree.slice.value
  return None


def _number(tree: ast.expr, state: dict) -> float | None:
  try:
    found = expressions.value(tree, expressions.Scope(state))
  except expressions.FaultError:
    return None
  return float(found) if isinstance(found, int | float) else None
