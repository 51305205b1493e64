"""Start of MiniGo runs on 19x19: checked here, made by playing."""

from collections.abc import Sequence

from input_pipelines.self_play import start as minigo_start
from input_pipelines.writing import recipe

_HOW_TO = """
It is made by playing and training from a random net, on accelerators; results
from a start of our own compare with nothing but each other:

  python -m launch.minigo.bootstrap --benchmark=minigo --size={size} \\
    --data_dir={{data_dir}}
"""


def recipe_of(
  board: str, size: str, size_bytes: int, splits: Sequence[str]
) -> recipe.Recipe:
  """The recipe for the start on a board, of a size of the benchmark."""
  return recipe.Recipe(
    name=f'{minigo_start.NAME}/{board}',
    summary=f'the nets that runs of MiniGo on {board} start from and play',
    licence='none needed; it is made by playing',
    bytes=size_bytes,
    splits=dict.fromkeys(splits),
    verify=minigo_start.verify,
    check=minigo_start.check,
    needs='launch.minigo.bootstrap, on accelerators',
    how_to=_HOW_TO.format(size=size),
  )


RECIPES = (
  recipe_of(
    '19x19',
    'reference',
    3_400_000_000,
    (minigo_start.GAMES,),
  ),
  # Runs on 9x9 start from a random net, so it holds the target alone.
  recipe_of('9x9', '9x9', 3_000_000, ()),
)
