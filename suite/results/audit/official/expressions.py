"""A small, closed language: what the official rule files say in Python.

Their checks are Python that the official engine hands to `eval` and `exec`,
together with values from a log. Here a rule is evaluated only after a walk over
its syntax tree has found nothing but what a short list allows, and with no
other names than those of the list; arithmetic goes through functions that
refuse texts and absurd sizes.
"""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
import copy
import functools
import hashlib
import io
import math
import operator
import tokenize
import types
from typing import Any

from suite.results.audit.record import Record

# What wrong types and absurd values raise in sums and look-ups.
FAULTS = (
  ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError
)  # fmt: skip
_LONG = 1 << 14  # items of a list worth sorting or adding to
_AGGREGATIONS = {  # digest of the tokens -> unit
  '359e50c14931c298': 'samples_count',
  '0c24317a8539f65f': 'step_num',
}


# State of a file, value and metadata of a line -> whether it will do.
Test = Callable[[dict[str, Any], dict[str, Any]], Any]


class UnknownError(ValueError):
  """A rule that this language lacks a construct for; the message names it."""


class FaultError(ValueError):
  """A rule that can't be applied to the values of a log."""


class Scope:
  """The names of a rule: the state of its file, and the line that it is for.

  One scope serves all lines of a file: no rule can change more than the state.
  """

  def __init__(
    self,
    state: dict[str, Any],
    enqueue: Callable[[str], None] = lambda name: None,
  ):
    self.state = state
    self.record: Record | None = None
    self._line = types.SimpleNamespace(timestamp=0.0)
    self.names = {
      '__builtins__': {}, 's': state, 'enqueue_config': enqueue,
      'll': self._line, **_KNOWN,
    }  # fmt: skip

  def move_to(self, record: Record) -> None:
    """Makes a record the line that rules are for."""
    self.record = record
    self.names['v'] = {'value': record.value, 'metadata': record.metadata}
    self._line.timestamp = record.time_ms


@functools.lru_cache(maxsize=4096)
def expression(source: str) -> ast.expr:
  """A condition, checked to be one that `value` knows."""
  return _parsed(source, 'eval').body


@functools.lru_cache(maxsize=4096)
def program(source: str) -> ast.Module:
  """Statements, checked to be ones that `run` knows."""
  return _parsed(source, 'exec')


def aggregation(source: str) -> str | None:
  """The unit by which a file joins evals of several metrics, if it does.

  The rules of one benchmark begin with a loop over the log that joins the
  metrics of a checkpoint into one event. It is recognised as a whole, by the
  digest of its tokens; the engine does the same.
  """
  tokens = tokenize.generate_tokens(io.StringIO(source.strip()).readline)
  words = [
    token.string
    for token in tokens
    if token.type != tokenize.COMMENT and token.string.strip()
  ]
  digest = hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]
  return _AGGREGATIONS.get(digest)


def value(tree: ast.expr, scope: Scope) -> Any:
  """The value of an expression; FaultError where a log's values forbid it."""
  try:
    return eval(_code(tree), scope.names)
  except FAULTS as error:
    raise FaultError(str(error)) from None


def test(trees: Sequence[ast.expr]) -> Test:
  """A function of the state and a line: whether all conditions hold.

  It raises what values of a log make it raise.
  """
  both = ast.BoolOp(ast.And(), [ast.Constant(True), *map(_guarded, trees)])
  lambda_ = ast.parse('lambda s, v: None', mode='eval').body
  tree = ast.Expression(ast.Lambda(lambda_.args, both))
  code = compile(ast.fix_missing_locations(tree), '<rules>', 'eval')
  return eval(code, {'__builtins__': {}, **_KNOWN})


def names(trees: Iterable[ast.AST]) -> set[str]:
  """The names in some conditions."""
  return {
    node.id
    for tree in trees
    for node in ast.walk(tree)
    if isinstance(node, ast.Name)
  }


def run(statements: ast.Module, scope: Scope) -> None:
  """Executes statements, which change the scope's state or enqueue a file."""
  if not statements.body:
    return
  try:
    exec(_code(statements), scope.names)
  except FAULTS as error:
    raise FaultError(str(error)) from None


def _parsed(source: str, mode: str) -> Any:
  try:
    tree = ast.parse(source.strip(), mode=mode)
    _require_known(tree, mode)
    _code(tree.body if mode == 'eval' else tree)
  except UnknownError:
    raise
  except (SyntaxError, ValueError, RecursionError) as error:
    kind = 'expression' if mode == 'eval' else 'statements'
    raise UnknownError(f'no {kind}: {source!r}') from error
  return tree


def _require_known(tree: ast.AST, mode: str) -> None:
  known = _EXPRESSIONS if mode == 'eval' else _EXPRESSIONS + _STATEMENTS
  for node in ast.walk(tree):
    if not isinstance(node, known):
      raise UnknownError(f'unknown construct {type(node).__name__}')
    if isinstance(node, ast.Call):
      known_name = ast.unparse(node.func) in _FUNCTIONS
      if node.keywords or not (known_name or _is_format(node.func)):
        raise UnknownError(f'unknown function: {ast.unparse(node)}')
    elif isinstance(node, ast.Name) and node.id not in _NAMES:
      raise UnknownError(f'unknown name {node.id!r}')
    elif isinstance(node, ast.Attribute):
      if ast.unparse(node) not in _ATTRIBUTES and not _is_format(node):
        raise UnknownError(f'unknown attribute: {ast.unparse(node)}')
    elif isinstance(node, ast.Assign | ast.AugAssign):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      for target in targets:
        into = target.value if isinstance(target, ast.Subscript) else target
        if into is target or ast.unparse(into) != 's':
          raise UnknownError(f'unknown target: {ast.unparse(node)}')


def _is_format(node: ast.expr) -> bool:
  """Returns whether it is a method of a constant: 'a text with {}'.format."""
  return (
    isinstance(node, ast.Attribute)
    and node.attr == 'format'
    and isinstance(node.value, ast.Constant)
  )


@functools.lru_cache(maxsize=8192)
def _code(tree: ast.expr | ast.Module) -> types.CodeType:
  tree = _guarded(tree)
  whole = tree if isinstance(tree, ast.Module) else ast.Expression(tree)
  mode = 'exec' if isinstance(tree, ast.Module) else 'eval'
  return compile(ast.fix_missing_locations(whole), '<rule>', mode)


def _guarded(tree: ast.expr | ast.Module) -> ast.expr | ast.Module:
  return _Guarded().visit(copy.deepcopy(tree))


class _Guarded(ast.NodeTransformer):
  """Puts our functions in place of operators, and of `format`."""

  def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
    """a + b -> _binary('Add', a, b)."""
    self.generic_visit(node)
    return _call('_binary', _name_of(node.op), node.left, node.right)

  def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
    """s['x'] += b -> s['x'] = _added('Add', s['x'], b)."""
    self.generic_visit(node)
    before = ast.Subscript(node.target.value, node.target.slice, ast.Load())
    added = _call('_added', _name_of(node.op), before, node.value)
    return ast.Assign([node.target], added)

  def visit_Call(self, node: ast.Call) -> ast.expr:
    """'a {}'.format(b) -> _formatted('a {}', b)."""
    self.generic_visit(node)
    if _is_format(node.func):
      return _call('_formatted', node.func.value, *node.args)
    return node


def _call(function: str, *arguments: ast.expr) -> ast.Call:
  return ast.Call(ast.Name(function, ast.Load()), list(arguments), [])


def _name_of(op: ast.operator) -> ast.Constant:
  return ast.Constant(type(op).__name__)


def _binary(kind: str, left: Any, right: Any) -> Any:
  if not (isinstance(left, list) and isinstance(right, list)):
    for side in (left, right):
      # A text times a number, or a text with % in it, is never meant.
      if not isinstance(side, int | float):
        raise TypeError(f'no number: {type(side).__name__}')
    if kind == 'Pow' and abs(right) > 8:
      raise ValueError('a power beyond 8')
  return _OPERATORS[kind](left, right)


def _added(kind: str, before: Any, added: Any) -> Any:
  if isinstance(before, list) and len(before) > _LONG:
    raise ValueError('too many items')
  return _binary(kind, before, added)


def _formatted(text: str, part: Any) -> str:
  """Names a file: only of what may stand in the name of one."""
  if not isinstance(part, str) or not part.isidentifier():
    raise ValueError('no part of a name')
  return text.replace('{}', part)


def _sorted(items: Any) -> list:
  if not isinstance(items, list) or len(items) > _LONG:
    raise TypeError('no list to sort')
  return sorted(items)


def _is_integer(number: Any) -> bool:
  return abs(round(number) - number) < 0.00001


_FUNCTIONS = frozenset({
  'is_integer', 'sorted', 'len', 'min', 'max', 'abs', 'int', 'float',
  'isinstance', 'type', 'print', 'enqueue_config', 'math.ceil', 'math.floor',
  'math.log2', 's.get', 's.update', "s['save_model_ts'].append",
})  # fmt: skip
_ATTRIBUTES = _FUNCTIONS | {'ll.timestamp'}
_KNOWN: Mapping[str, Any] = {
  'is_integer': _is_integer, 'sorted': _sorted, 'len': len, 'min': min,
  'max': max, 'abs': abs, 'int': int, 'float': float, 'bool': bool,
  'isinstance': isinstance, 'type': type, 'print': lambda *arguments: None,
  'math': math, '_binary': _binary, '_added': _added, '_formatted': _formatted,
}  # fmt: skip
_NAMES = frozenset({'s', 'v', 'll', 'enqueue_config', *_KNOWN}) - {
  '_binary', '_added', '_formatted',
}  # fmt: skip
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
  'Add': operator.add, 'Sub': operator.sub, 'Mult': operator.mul,
  'Div': operator.truediv, 'Mod': operator.mod, 'Pow': operator.pow,
  'BitOr': operator.or_,
}  # fmt: skip
_EXPRESSIONS = (
  ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Subscript,
  ast.Compare, ast.BoolOp, ast.IfExp, ast.BinOp, ast.UnaryOp, ast.Call,
  ast.List, ast.Dict, ast.expr_context, ast.boolop, ast.Not, ast.USub,
  ast.cmpop, *(getattr(ast, name) for name in _OPERATORS),
)  # fmt: skip
_STATEMENTS = (ast.Module, ast.Expr, ast.Assign, ast.AugAssign, ast.If)
