"""Whom runs of MiniGo on 9x9 have to beat: they start from a random net."""

from input_pipelines import minigo_start
from input_pipelines.prepare import minigo

RECIPE = minigo.recipe_of('9x9', 'v0.6', 2_000_000, (minigo_start.WEIGHTS,))
