"""The models do not lean on NNX's graph mode, which Flax may give up."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest

_FOLDER = pathlib.Path(__file__).parent


class TreeModeTest(absltest.TestCase):
  def test_model_tests_pass_with_nnx_in_tree_mode(self):
    tree_mode = {'NNX_GRAPH_MODE': 'false', 'NNX_GRAPH_UPDATES': 'false'}
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider'),
        str(_FOLDER / 'parts' / 'functional_test.py'),
        str(_FOLDER / 'parts' / 'layers_test.py'),
        # The Transformer is called, and MiniGo's network is built.
        str(_FOLDER / 'transformer_test.py::MaskTest')
        + '::test_a_row_of_padding_alone_is_finite',
        str(_FOLDER / 'minigo' / 'minigo_test.py::ParametersTest'),
      ],
      env={**os.environ, **tree_mode},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(done.returncode, 0, done.stdout)
    self.assertRegex(done.stdout, r'\d+ passed|100%')


if __name__ == '__main__':
  absltest.main()
