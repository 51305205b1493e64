"""The direction of imports, read from the source."""

import ast
import dataclasses
import functools
import graphlib
import pathlib
import re

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).parent.parent
_FOLDERS = ('models', 'input_pipelines', 'suite', 'launch')
# Layer -> the layers that it may import, beside itself. A module belongs to the
# longest of these names that it begins with; `suite` alone is what is declared.
_MAY_IMPORT = {
  'models': set(),
  'input_pipelines': set(),
  'suite': set(),
  'suite.metrics': set(),
  'suite.run': {'suite'},
  'suite.results': {'suite'},
  'suite.benchmarks': {
    'suite',
    'suite.run',
    'suite.metrics',
    'models',
    'input_pipelines',
  },
  'launch': {
    'suite',
    'suite.run',
    'suite.results',
    'suite.benchmarks',
    'models',
    'input_pipelines',
  },
}
_HEAVY = {'jax', 'jaxlib', 'flax', 'optax', 'tensorflow', 'torch'}
# Who reads results or prepares data waits for no accelerator's library.
_NO_JAX = {'input_pipelines', 'suite', 'suite.metrics', 'suite.results'}


@dataclasses.dataclass(frozen=True)
class _Module:
  name: str
  text: str
  tree: ast.Module
  imports: frozenset[str]


@functools.cache
def _modules():
  return [
    _read(path)
    for folder in _FOLDERS
    for path in sorted((_ROOT / folder).rglob('*.py'))
  ]


def _read(path):
  name = '.'.join(path.relative_to(_ROOT).with_suffix('').parts)
  text = path.read_text(encoding='utf-8')
  tree = ast.parse(text)
  found = frozenset(_imports(name, tree))
  return _Module(name.removesuffix('.__init__'), text, tree, found)


def _imports(name, tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{name}: relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


def _layer(module):
  names = [n for n in _MAY_IMPORT if f'{module}.'.startswith(f'{n}.')]
  return max(names, key=len)


def _declares(module):
  """Returns whether a module declares a benchmark; that needs nothing heavy."""
  parts = module.split('.')
  return parts[:2] == ['suite', 'benchmarks'] and (
    len(parts) <= 3 or parts[3] == 'hparams'
  )


def _circle(imports, depth):
  """A circle of imports between names cut to `depth` parts; [] without one.

  `imports` maps every module to what it imports.
  """
  graph = {}
  for module, found in imports.items():
    for imported in found:
      other = imported if imported in imports else imported.rpartition('.')[0]
      here, there = (
        '.'.join(name.split('.')[:depth]) for name in (module, other)
      )
      if other in imports and here != there:
        graph.setdefault(here, set()).add(there)
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    return error.args[1]
  return []


class LayeringTest(absltest.TestCase):
  def test_neither_modules_nor_packages_import_in_a_circle(self):
    imports = {module.name: module.imports for module in _modules()}
    for depth in (2, 3, None):  # packages, those two deep, modules
      self.assertEmpty(_circle(imports, depth))

  def test_a_circle_is_found(self):
    imports = {'a.b.c': {'a.d.e.f'}, 'a.d.e': {'a.b.g'}, 'a.b.g': set()}
    self.assertEmpty(_circle(imports, None))
    self.assertCountEqual(set(_circle(imports, 2)), ['a.b', 'a.d'])

  def test_imports_point_down(self):
    for module in _modules():
      layer = _layer(module.name)
      for imported in module.imports:
        if imported.split('.')[0] in _FOLDERS:
          self.assertIn(
            _layer(imported),
            {layer, *_MAY_IMPORT[layer]},
            f'{module.name} imports {imported}',
          )

  def test_pipelines_stay_free_of_frameworks_and_nothing_needs_tensorflow(self):
    for module in _modules():
      light = _layer(module.name) in _NO_JAX or _declares(module.name)
      banned = _HEAVY if light else {'tensorflow', 'torch'}
      tops = {imported.split('.')[0] for imported in module.imports}
      self.assertEmpty(tops & banned, module.name)

  def test_the_core_names_no_benchmark(self):
    names = [
      p.parent.name for p in (_ROOT / 'suite/benchmarks').glob('*/task.py')
    ]
    self.assertNotEmpty(names)
    named = re.compile('|'.join(rf'[\'"]{re.escape(n)}[\'"]' for n in names))
    for module in _modules():
      if not module.name.startswith('suite') or 'benchmarks' in module.name:
        continue
      for word in ast.walk(module.tree):
        if isinstance(word, ast.Compare):
          self.assertNotRegex(ast.unparse(word), named, module.name)

  def test_only_jax_transforms_are_used(self):
    for module in _modules():
      self.assertNotRegex(
        module.text,
        r'nnx\.(jit|grad|value_and_grad|vmap|scan|remat|Optimizer|pmap)\b'
        r'|jax\.pmap',
        module.name,
      )

  def test_a_file_begins_with_what_it_is_and_is_not_long(self):
    for module in _modules():
      first = (ast.get_docstring(module.tree) or '').partition('\n')[0]
      self.assertRegex(first, r'[.:]$', f'{module.name} says not what it is')
      self.assertLess(module.text.count('\n'), 500, module.name)

  def test_a_mark_of_a_test_is_not_lost(self):
    # A mark above the parameters marks their list, and no test is slow.
    lost = re.compile(r'@pytest\.mark\.\w+\n +@parameterized')
    for path in (_ROOT / 'tests').rglob('*.py'):
      self.assertNotRegex(path.read_text(encoding='utf-8'), lost, path.name)


if __name__ == '__main__':
  absltest.main()
