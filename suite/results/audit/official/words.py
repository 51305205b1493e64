"""Official conditions and values in words."""

import ast
import copy
from typing import Any

from suite.results.audit.findings import show

_LONG = 300  # characters of a condition that is told in full
# What a flag of the state of a file says, where a condition is nothing else.
_FLAGS = {
  "s['init_started']": 'init_start before it',
  "s['init_stopped']": 'init_stop before it',
  "s['run_started']": 'run_start before it',
  "not s['init_stopped']": 'no init_stop before it',
  "not s['run_started']": 'no run_start before it',
}
_SIGNS = {
  ast.Eq: '', ast.NotEq: 'other than ', ast.Lt: 'below ', ast.LtE: 'at most ',
  ast.Gt: 'above ', ast.GtE: 'at least ', ast.In: 'one of ',
}  # fmt: skip


def condition(tree: ast.expr, key: str, state: dict[str, Any]) -> str:
  """Words for a condition on a line of `key`: 'opt_name one of lars, sgd'."""
  text = _condition(tree, key, state)
  return text if len(text) <= _LONG else text[: _LONG - 3] + '...'


def _condition(tree: ast.expr, key: str, state: dict[str, Any]) -> str:
  source = ast.unparse(tree)
  if source in _FLAGS or source.replace(' == True', '') in _FLAGS:
    return f'{_FLAGS[source.replace(" == True", "")]} ({key})'
  if isinstance(tree, ast.BoolOp):
    word = ' and ' if isinstance(tree.op, ast.And) else ' or '
    return word.join(_condition(part, key, state) for part in tree.values)
  if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
    sides = (tree.left, tree.right)
    return ' or '.join(_condition(part, key, state) for part in sides)
  if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
    return _comparison(tree, key, state)
  if isinstance(tree, ast.Call) and ast.unparse(tree.func) == 'is_integer':
    return f'a whole number as {_term(tree.args[0], key, state)}'
  if source == "isinstance(v['value'], int)":
    return f'a whole number as {key}'
  return _term(tree, key, state)


def _comparison(tree: ast.Compare, key: str, state: dict[str, Any]) -> str:
  kind, right = type(tree.ops[0]), tree.comparators[0]
  if kind is ast.In and ast.unparse(right) == "v['metadata']":
    return f'metadata {tree.left.value} in {key}'
  if kind is ast.In and ast.unparse(right) in ("v['value']", 'v'):
    return f'{tree.left.value} in {key}'
  left = _term(tree.left, key, state)
  if kind is ast.NotEq and ast.unparse(right) == "''":
    return f'a text as {left}'
  if kind is ast.In and isinstance(right, ast.List):
    items = ', '.join(ast.unparse(item).strip("'") for item in right.elts)
    return f'{left} one of {items}'
  if kind in _SIGNS:
    return f'{left} {_SIGNS[kind]}{_term(right, key, state)}'
  return _term(tree, key, state)


def _term(tree: ast.expr, key: str, state: dict[str, Any]) -> str:
  plain = _Plain(key, state).visit(copy.deepcopy(tree))
  return ast.unparse(plain).replace('__of__', ' of ')


class _Plain(ast.NodeTransformer):
  """Names instead of look-ups, and values where the state has them."""

  def __init__(self, key: str, state: dict[str, Any]):
    self._key = key
    self._state = state

  def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
    """v['value'] -> the key, s['x'] -> its value."""
    source = ast.unparse(node)
    if source == "v['value']":
      return ast.Name(self._key)
    if isinstance(node.slice, ast.Constant):
      name = str(node.slice.value)
      if source.startswith("s['"):
        known = self._state.get(name)
        return ast.Name(name if known is None else show(known))
      if source.startswith(("v['metadata']", "v['value']")):
        return ast.Name(f'{name}__of__{self._key}')
    return self.generic_visit(node)

  def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
    """ll.timestamp -> the time of the key."""
    if ast.unparse(node) == 'll.timestamp':
      return ast.Name(f'time_ms__of__{self._key}')
    return self.generic_visit(node)
