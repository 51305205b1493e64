"""The direction of imports, read from the source."""

import ast
import pathlib
import re

from absl.testing import absltest, parameterized

_ROOT = pathlib.Path(__file__).parent.parent
_FOLDERS = ('models', 'input_pipelines', 'suite', 'launch')
# Folder -> what it may import of ours. The longest prefix of a module counts.
_MAY_IMPORT = {
  'models': {'models'},
  'input_pipelines': {'input_pipelines'},
  'suite': {'suite'},
  'suite.benchmarks': {
    'suite',
    'suite.benchmarks',
    'models',
    'input_pipelines',
  },
  'launch': {*_FOLDERS, 'suite.benchmarks'},
}
_NO_JAX = {'input_pipelines'}
_HEAVY = {'jax', 'jaxlib', 'flax', 'optax', 'tensorflow', 'torch'}


def _modules():
  for folder in _FOLDERS:
    for path in sorted((_ROOT / folder).rglob('*.py')):
      name = '.'.join(path.relative_to(_ROOT).with_suffix('').parts)
      yield name.removesuffix('.__init__'), path


def _imports(path):
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


def _layer(module):
  parts = module.split('.')
  pair = '.'.join(parts[:2])
  return pair if pair in _MAY_IMPORT else parts[0]


class LayeringTest(parameterized.TestCase):
  @parameterized.parameters(*_modules())
  def test_imports_point_down(self, module, path):
    for imported in _imports(path):
      if imported.split('.')[0] in _FOLDERS:
        self.assertIn(
          _layer(imported),
          _MAY_IMPORT[_layer(module)],
          f'{module} imports {imported}',
        )

  @parameterized.parameters(*_modules())
  def test_pipelines_stay_free_of_frameworks_and_nothing_needs_tensorflow(
    self, module, path
  ):
    banned = _HEAVY if _layer(module) in _NO_JAX else {'tensorflow', 'torch'}
    tops = {imported.split('.')[0] for imported in _imports(path)}
    self.assertEmpty(tops & banned)

  def test_the_core_names_no_benchmark(self):
    names = [p.stem for p in (_ROOT / 'suite/benchmarks').glob('[a-z]*.py')]
    self.assertNotEmpty(names)
    for path in (_ROOT / 'suite').rglob('*.py'):
      if path.parent.name == 'benchmarks':
        continue
      for word in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(word, ast.Compare):
          text = ast.unparse(word)
          for name in names:
            self.assertNotRegex(text, rf'[\'"]{re.escape(name)}[\'"]')

  @parameterized.parameters(*_modules())
  def test_only_jax_transforms_are_used(self, module, path):
    del module
    self.assertNotRegex(
      path.read_text(encoding='utf-8'),
      r'nnx\.(jit|grad|value_and_grad|vmap|scan|remat|Optimizer|pmap)\b|jax\.pmap',
    )

  @parameterized.parameters(*_modules())
  def test_a_file_begins_with_what_it_is_and_is_not_long(self, module, path):
    del module
    text = path.read_text(encoding='utf-8')
    first = (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0]
    self.assertRegex(first, r'[.:]$', f'{path} says not what it is')
    self.assertLess(text.count('\n'), 500)


if __name__ == '__main__':
  absltest.main()
