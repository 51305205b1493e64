"""The official rule files, read as data from the installed mlperf-logging.

A ruleset is a folder of files. A log is held to `common.yaml`, which names
the next one by the log's division, which names that of the benchmark, which
may name that of an optimizer.
"""

import ast
from collections.abc import Iterator, Mapping
import dataclasses
import functools
import importlib.util
import pathlib
import re
from typing import Any

import yaml

from suite.results.audit.official import expressions

FORMER = '0.6.0'  # logs of that round are lines of another format
_FOLDER = 'training_'
_NAME = re.compile(r'^\s*NAME:\s*(\w+)', re.MULTILINE)
_LOADER = getattr(yaml, 'CBaseLoader', yaml.BaseLoader)


@dataclasses.dataclass(frozen=True)
class Check:
  """A condition on each line of a key.

  Where a rule holds two conditions of one name, YAML keeps the last alone. The
  authors meant both: ssd up to 1.1.0 bounds the first of two decay epochs
  that way, as the rules text does. `dead` marks those that YAML loses.
  """

  source: str
  tree: ast.expr
  dead: bool = False


@dataclasses.dataclass(frozen=True)
class Rule:
  """Rule of a file for one key."""

  key: str
  file: str  # 'training_4.0.0/closed_resnet.yaml'
  required: str | None  # 'EXACTLY_ONE', 'AT_LEAST(2)', ...
  checks: tuple[Check, ...]
  first_checks: tuple[Check, ...]  # of the first line of the key alone
  at_least_one: Check | None  # one line of the key must meet it: the target
  post: ast.Module

  @functools.cached_property
  def test(self) -> expressions.Test | None:
    """Holds a line to all checks; None where the rule does more than that."""
    trees = [each.tree for each in self.checks]
    more = self.post.body or self.first_checks or 'submission_' in self.key
    return (
      None
      if more or 'll' in expressions.names(trees)
      else (expressions.test(trees))
    )

  @functools.cached_property
  def reached(self) -> expressions.Test | None:
    """Tells whether a line meets the target; None where the rule has none."""
    return self.at_least_one and expressions.test([self.at_least_one.tree])

  @property
  def name(self) -> str:
    """File and key, for messages."""
    return f'{self.file} {self.key}'


@dataclasses.dataclass(frozen=True)
class File:
  """One file of rules."""

  name: str
  rules: Mapping[str, Rule]
  begin: ast.Module
  aggregates_by: str | None  # see `expressions.aggregation`
  end: tuple[Check, ...]
  unknown: tuple[str, ...]  # what could not be understood, and is not checked

  @functools.cached_property
  def active(self) -> frozenset[str]:
    """The keys of which each line is looked at: others are only counted."""
    return frozenset(
      rule.key
      for rule in self.rules.values()
      if rule.checks
      or rule.first_checks
      or rule.at_least_one
      or rule.post.body
      or 'submission_' in rule.key
    )


@functools.cache
def rulesets() -> tuple[str, ...]:
  """Their names, oldest first: '0.6.0' to that of the newest round."""
  names = [
    path.name.removeprefix(_FOLDER)
    for path in _root().glob(f'{_FOLDER}[0-9]*')
    if re.fullmatch(r'\d+\.\d+\.\d+', path.name.removeprefix(_FOLDER))
  ]
  return tuple(sorted(names, key=order))


def order(ruleset: str) -> tuple[int, ...]:
  """By which rulesets are sorted: '4.1.0' -> (4, 1, 0)."""
  return tuple(int(part) for part in ruleset.split('.'))


@functools.cache
def keys() -> frozenset[str]:
  """Every key that a rule of any ruleset names."""
  found: set[str] = set()
  for path in _root().glob(f'{_FOLDER}[0-9]*/*.yaml'):
    found.update(_NAME.findall(path.read_text(encoding='utf-8')))
  return frozenset(found)


@functools.cache
def benchmarks() -> Mapping[str, tuple[str, ...]]:
  """Name -> the rulesets that have a file for it, oldest first."""
  everywhere = {name for ruleset in rulesets() for name in _names(ruleset)}
  names = {
    name.removeprefix('open_').removesuffix('.yaml')
    for name in everywhere
    if name.startswith('open_')  # no optimizer has one
  } - {'common'}
  return {
    name: tuple(
      ruleset
      for ruleset in rulesets()
      if _names(ruleset).intersection(_files(name))
    )
    for name in sorted(names)
  }


def _files(benchmark: str) -> tuple[str, ...]:
  return tuple(f'{start}{benchmark}.yaml' for start in ('closed_', 'open_', ''))


@functools.cache
def load(name: str) -> File | None:
  """A file such as 'training_4.0.0/common.yaml'; None where there is none.

  `name` may hold text from a log: it is looked up, never opened as it is.
  """
  folder, _, base = name.partition('/')
  ruleset = folder.removeprefix(_FOLDER)
  if ruleset not in rulesets() or base not in _names(ruleset):
    return None
  text = (_root() / folder / base).read_text(encoding='utf-8')
  return _file(name, text)


@functools.cache
def _root() -> pathlib.Path:
  package = 'mlperf_logging'
  found = importlib.util.find_spec(package)
  if found is None or not found.submodule_search_locations:
    raise FileNotFoundError('Expected the package mlperf-logging, found none.')
  return pathlib.Path(found.submodule_search_locations[0], 'compliance_checker')


@functools.cache
def _names(ruleset: str) -> frozenset[str]:
  return frozenset(
    path.name for path in (_root() / f'{_FOLDER}{ruleset}').glob('*.yaml')
  )


def _file(name: str, text: str) -> File:
  rules, unknown = {}, []
  begin, end, unit = expressions.program(''), (), None
  for kind, fields in _entries(text):
    try:
      if kind == 'KEY':
        rule = _rule(name, fields)
        rules[rule.key] = rule
      elif kind == 'BEGIN':
        unit = expressions.aggregation(fields['CODE'][-1])
        if not unit:
          begin = expressions.program(fields['CODE'][-1])
      elif kind == 'END':
        end = tuple(_checks(fields, 'CHECK'))
    except expressions.UnknownError as error:
      unknown.append(f'{_last(fields, "NAME") or kind}: {error}')
  return File(name, rules, begin, unit, end, tuple(unknown))


def _entries(text: str) -> Iterator[tuple[str, dict[str, list]]]:
  """(KEY, BEGIN or END; field -> all its values, duplicates too)."""
  root = yaml.compose(text, Loader=_LOADER)
  for item in root.value if root else ():
    for kind, body in item.value:
      fields: dict[str, list[Any]] = {}
      for key, node in body.value:
        fields.setdefault(key.value, []).append(_plain(node))
      yield kind.value, fields


def _plain(node: yaml.Node) -> Any:
  if isinstance(node, yaml.SequenceNode):
    return [item.value for item in node.value]
  return node.value


def _rule(file: str, fields: dict[str, list]) -> Rule:
  target = list(_checks(fields, 'ATLEAST_ONE_CHECK'))
  return Rule(
    key=fields['NAME'][-1],
    file=file,
    required=_last(fields, 'REQ'),
    checks=tuple(_checks(fields, 'CHECK')),
    first_checks=tuple(_checks(fields, 'FIRST_CHECK')),
    at_least_one=target[-1] if target else None,
    post=expressions.program(_last(fields, 'POST') or ''),
  )


def _checks(fields: dict[str, list], name: str) -> Iterator[Check]:
  versions = fields.get(name, [])
  for number, version in enumerate(versions):
    dead = number < len(versions) - 1
    for source in version if isinstance(version, list) else [version]:
      if source.strip():
        yield Check(source.strip(), expressions.expression(source), dead)


def _last(fields: dict[str, list], name: str) -> str | None:
  return fields[name][-1] if name in fields else None
