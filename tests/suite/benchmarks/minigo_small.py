"""MiniGo at the size of tests: 3x3, as small as a run with all its parts.

Two processes are not held to one by the generic test: each plays games of its
own, so together they train on others than one process does. Nor are they held
to themselves, run twice: that is two minutes of CPU for compiling alone.
"""

import dataclasses

from suite.benchmarks import minigo

_TINY = minigo.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    train_batch_size=32,
    concurrent_games=16,
    max_generations=2,
    eval_batch_size=16,
    min_selfplay_games_per_generation=24,
    window_generations=2,
    board_size=3,
    conv_width=8,
    trunk_layers=1,
    fc_width=8,
    num_readouts=8,
    fastplay_readouts=4,
    tree_capacity=24,
    eval_games=20,
    eval_readouts=4,
    opponent_readouts=4,
  ),
  data=dataclasses.replace(_TINY.data, eval_samples=20),
)
PARTS_DIFFER = 'Batch norm is over the rows of a part.'
