"""A small, closed language: what the official rule files say in Python.

Their checks are Python that the official engine hands to `eval` and `exec`,
together with values from a log. Nothing is evaluated that way here: a walk
over the syntax tree knows a few dozen constructs, and refuses all others when
a rule is read, before any log is.
"""

import ast
from collections.abc import Callable, Mapping
import dataclasses
import functools
import hashlib
import io
import math
import operator
import tokenize
from typing import Any

from suite.results.audit.log import Record

# What wrong types and absurd values raise in sums and look-ups.
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_LONG = 1 << 14  # items of a list or characters of a text worth comparing


class UnknownError(ValueError):
  """A rule that this language lacks a construct for; the message names it."""


class FaultError(ValueError):
  """A rule that can't be applied to the values of a log."""


@dataclasses.dataclass(frozen=True)
class Line:
  """What a rule sees of a line: its value, metadata and time."""

  record: Record

  @property
  def v(self) -> dict[str, Any]:
    """As the rules know it."""
    return {'value': self.record.value, 'metadata': self.record.metadata}


@dataclasses.dataclass(frozen=True)
class Scope:
  """The names of a rule: the state of its file, and the line that it is for."""

  state: dict[str, Any]
  line: Line | None = None
  enqueue: Callable[[str], None] | None = None


@functools.lru_cache(maxsize=4096)
def expression(source: str) -> ast.expr:
  """A condition, checked to be one that `value` knows."""
  try:
    tree = ast.parse(source.strip(), mode='eval').body
  except (SyntaxError, ValueError, RecursionError) as error:
    raise UnknownError(f'no expression: {source!r}') from error
  _require_known(tree, _EXPRESSIONS)
  return tree


@functools.lru_cache(maxsize=4096)
def program(source: str) -> tuple[ast.stmt, ...]:
  """Statements, checked to be ones that `run` knows."""
  try:
    tree = ast.parse(source.strip())
  except (SyntaxError, ValueError, RecursionError) as error:
    raise UnknownError(f'no statements: {source!r}') from error
  for statement in tree.body:
    _require_known(statement, {**_EXPRESSIONS, **_STATEMENTS})
  return tuple(tree.body)


def aggregation(source: str) -> str | None:
  """The unit by which a file joins evals of several metrics, if it does.

  The rules of one benchmark begin with a loop over the log that joins the
  metrics of a checkpoint into one event. It is recognised as a whole, by the
  digest of its tokens; what it does stands in `engine`.
  """
  return _AGGREGATIONS.get(_digest(source))


def value(tree: ast.expr, scope: Scope) -> Any:
  """What an expression comes to; FaultError where a log's values forbid it."""
  try:
    return _value(tree, scope)
  except _FAULTS as error:
    raise FaultError(str(error)) from None


def run(statements: tuple[ast.stmt, ...], scope: Scope) -> None:
  """Executes statements, which change the scope's state or enqueue a file."""
  try:
    for statement in statements:
      _STATEMENTS[type(statement)](statement, scope)
  except _FAULTS as error:
    raise FaultError(str(error)) from None


_AGGREGATIONS = {  # digest of the tokens -> unit
  '359e50c14931c298': 'samples_count',
  '0c24317a8539f65f': 'step_num',
}


def _digest(source: str) -> str:
  tokens = tokenize.generate_tokens(io.StringIO(source.strip()).readline)
  words = [
    token.string
    for token in tokens
    if token.type != tokenize.COMMENT and token.string.strip()
  ]
  return hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]


def _require_known(tree: ast.AST, known: Mapping[type, Any]) -> None:
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      if _called(node) is None:
        raise UnknownError(f'unknown function: {ast.unparse(node)}')
    elif isinstance(node, ast.Name):
      if node.id not in _NAMES:
        raise UnknownError(f'unknown name {node.id!r}')
    elif isinstance(node, ast.Attribute):
      if ast.unparse(node) not in _ATTRIBUTES and not _is_format(node):
        raise UnknownError(f'unknown attribute: {ast.unparse(node)}')
    elif isinstance(node, _OPERATORS):
      if type(node) not in _BINARY and type(node) not in _COMPARE:
        raise UnknownError(f'unknown operator {type(node).__name__}')
    elif not isinstance(node, _PLAIN) and type(node) not in known:
      raise UnknownError(f'unknown construct {type(node).__name__}')
    elif isinstance(node, ast.Compare) or not isinstance(node, _WRITES):
      continue
    else:
      _require_writable(node)


def _require_writable(node: ast.Assign | ast.AugAssign) -> None:
  targets = node.targets if isinstance(node, ast.Assign) else [node.target]
  for target in targets:
    if not (isinstance(target, ast.Subscript) and _is_state(target.value)):
      raise UnknownError(f'unknown target: {ast.unparse(node)}')


def _is_state(node: ast.expr) -> bool:
  return isinstance(node, ast.Name) and node.id == 's'


def _is_format(node: ast.Attribute) -> bool:
  return node.attr == 'format' and isinstance(node.value, ast.Constant)


def _value(node: ast.expr, scope: Scope) -> Any:
  return _EXPRESSIONS[type(node)](node, scope)


def _name(node: ast.Name, scope: Scope) -> Any:
  if node.id == 's':
    return scope.state
  if node.id == 'v' and scope.line:
    return scope.line.v
  if node.id in _TYPES:
    return _TYPES[node.id]
  raise LookupError(f'no {node.id} here')


def _attribute(node: ast.Attribute, scope: Scope) -> Any:
  if ast.unparse(node) != 'll.timestamp' or not scope.line:
    raise LookupError(ast.unparse(node))
  return scope.line.record.time_ms


def _subscript(node: ast.Subscript, scope: Scope) -> Any:
  return _value(node.value, scope)[_value(node.slice, scope)]


def _compare(node: ast.Compare, scope: Scope) -> bool:
  left = _value(node.left, scope)
  for kind, right_node in zip(node.ops, node.comparators, strict=True):
    right = _value(right_node, scope)
    if not _COMPARE[type(kind)](left, right):
      return False
    left = right
  return True


def _boolean(node: ast.BoolOp, scope: Scope) -> Any:
  result = None
  for part in node.values:
    result = _value(part, scope)
    if bool(result) is isinstance(node.op, ast.Or):
      return result
  return result


def _choice(node: ast.IfExp, scope: Scope) -> Any:
  return _value(node.body if _value(node.test, scope) else node.orelse, scope)


def _binary(node: ast.BinOp, scope: Scope) -> Any:
  left, right = _value(node.left, scope), _value(node.right, scope)
  if isinstance(left, list) and isinstance(right, list):
    return left + right
  for side in (left, right):
    # A text times a number, or a text with % in it, is never meant.
    if not isinstance(side, int | float):
      raise TypeError(f'no number: {type(side).__name__}')
  if isinstance(node.op, ast.Pow) and abs(right) > 8:
    raise ValueError('a power beyond 8')
  return _BINARY[type(node.op)](left, right)


def _unary(node: ast.UnaryOp, scope: Scope) -> Any:
  operand = _value(node.operand, scope)
  return not operand if isinstance(node.op, ast.Not) else -operand


def _call(node: ast.Call, scope: Scope) -> Any:
  function = _called(node)
  return function(scope, *(_value(argument, scope) for argument in node.args))


def _called(node: ast.Call) -> Callable[..., Any] | None:
  """The function of a call; None for one that is unknown."""
  if node.keywords:
    return None
  if isinstance(node.func, ast.Attribute) and _is_format(node.func):
    return functools.partial(_formatted, node.func.value.value)
  return _FUNCTIONS.get(ast.unparse(node.func))


def _formatted(text: str, scope: Scope, part: Any) -> str:
  """Names a file: only of what may stand in the name of one."""
  if not isinstance(part, str) or not part.isidentifier():
    raise ValueError('no part of a name')
  return text.replace('{}', part)


def _enqueue(scope: Scope, name: str) -> None:
  if scope.enqueue:
    scope.enqueue(name)


def _append(scope: Scope, item: Any) -> None:
  scope.state['save_model_ts'].append(item)


def _length(scope: Scope, items: Any) -> int:
  return len(items)


def _sorted(scope: Scope, items: Any) -> list:
  if not isinstance(items, list) or len(items) > _LONG:
    raise TypeError('no list to sort')
  return sorted(items)


def _is_integer(scope: Scope, number: Any) -> bool:
  return abs(round(number) - number) < 0.00001


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
  return lambda scope, *arguments: function(*arguments)


def _expression_statement(node: ast.Expr, scope: Scope) -> None:
  _value(node.value, scope)


def _assign(node: ast.Assign, scope: Scope) -> None:
  result = _value(node.value, scope)
  for target in node.targets:
    scope.state[_value(target.slice, scope)] = result


def _augment(node: ast.AugAssign, scope: Scope) -> None:
  key = _value(node.target.slice, scope)
  added = _value(node.value, scope)
  before = scope.state[key]
  if isinstance(before, list) and len(before) > _LONG:
    raise ValueError('too many items')
  scope.state[key] = _BINARY[type(node.op)](before, added)


def _if(node: ast.If, scope: Scope) -> None:
  chosen = node.body if _value(node.test, scope) else node.orelse
  run(tuple(chosen), scope)


_TYPES = {'bool': bool, 'int': int, 'float': float}
_NAMES = frozenset({
  's', 'v', 'll', 'math', 'is_integer', 'sorted', 'enqueue_config', 'min',
  'max', 'len', 'abs', 'isinstance', 'type', 'print', *_TYPES,
})  # fmt: skip
_ATTRIBUTES = frozenset({
  'll.timestamp', 'math.ceil', 'math.floor', 'math.log2', 's.get', 's.update',
  "s['save_model_ts'].append",
})  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
  'is_integer': _is_integer,
  'sorted': _sorted,
  'len': _length,
  'min': _plain(min),
  'max': _plain(max),
  'abs': _plain(abs),
  'int': _plain(int),
  'float': _plain(float),
  'isinstance': _plain(isinstance),
  'type': _plain(type),
  'print': lambda scope, *arguments: None,
  'math.ceil': _plain(math.ceil),
  'math.floor': _plain(math.floor),
  'math.log2': _plain(math.log2),
  's.get': lambda scope, key: scope.state.get(key),
  's.update': lambda scope, other: scope.state.update(other),
  "s['save_model_ts'].append": _append,
  'enqueue_config': _enqueue,
}
_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.Mod: operator.mod,
  ast.Pow: operator.pow,
  ast.BitOr: operator.or_,
}
_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
  ast.Eq: operator.eq,
  ast.NotEq: operator.ne,
  ast.Lt: operator.lt,
  ast.LtE: operator.le,
  ast.Gt: operator.gt,
  ast.GtE: operator.ge,
  ast.In: lambda item, items: item in items,
  ast.NotIn: lambda item, items: item not in items,
  ast.Is: operator.is_,
  ast.IsNot: operator.is_not,
}
_EXPRESSIONS: Mapping[type, Callable[[Any, Scope], Any]] = {
  ast.Constant: lambda node, scope: node.value,
  ast.Name: _name,
  ast.Attribute: _attribute,
  ast.Subscript: _subscript,
  ast.Compare: _compare,
  ast.BoolOp: _boolean,
  ast.IfExp: _choice,
  ast.BinOp: _binary,
  ast.UnaryOp: _unary,
  ast.Call: _call,
  ast.List: lambda node, scope: [_value(item, scope) for item in node.elts],
  ast.Dict: lambda node, scope: {
    _value(key, scope): _value(item, scope)
    for key, item in zip(node.keys, node.values, strict=True)
  },
}
_STATEMENTS: Mapping[type, Callable[[Any, Scope], None]] = {
  ast.Expr: _expression_statement,
  ast.Assign: _assign,
  ast.AugAssign: _augment,
  ast.If: _if,
}
_OPERATORS = (ast.operator, ast.cmpop)
_PLAIN = (ast.expr_context, ast.boolop, ast.Not, ast.USub)
_WRITES = (ast.Assign, ast.AugAssign)
