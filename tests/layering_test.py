"""The direction of imports, read from the source."""

import ast
import pathlib
import re

from absl.testing import absltest, parameterized

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
  names = [n for n in _MAY_IMPORT if f'{module}.'.startswith(f'{n}.')]
  return max(names, key=len)


def _declares(module):
  """Whether a module declares a benchmark; that needs nothing heavy."""
  parts = module.split('.')
  return parts[:2] == ['suite', 'benchmarks'] and (
    len(parts) <= 3 or parts[3] == 'hparams'
  )


class LayeringTest(parameterized.TestCase):
  @parameterized.parameters(*_modules())
  def test_imports_point_down(self, module, path):
    for imported in _imports(path):
      if imported.split('.')[0] in _FOLDERS:
        layer = _layer(module)
        self.assertIn(
          _layer(imported),
          {layer, *_MAY_IMPORT[layer]},
          f'{module} imports {imported}',
        )

  @parameterized.parameters(*_modules())
  def test_pipelines_stay_free_of_frameworks_and_nothing_needs_tensorflow(
    self, module, path
  ):
    light = _layer(module) in _NO_JAX or _declares(module)
    banned = _HEAVY if light else {'tensorflow', 'torch'}
    tops = {imported.split('.')[0] for imported in _imports(path)}
    self.assertEmpty(tops & banned)

  def test_the_core_names_no_benchmark(self):
    names = [
      p.parent.name for p in (_ROOT / 'suite/benchmarks').glob('*/task.py')
    ]
    self.assertNotEmpty(names)
    for path in (_ROOT / 'suite').rglob('*.py'):
      if 'benchmarks' in path.parts:
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
