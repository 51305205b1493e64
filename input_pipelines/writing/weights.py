"""Writes a data set that runs start from: weights, and splits beside them."""

from collections.abc import Callable, Mapping, Sequence
import importlib
import json
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.reading import arrays
from input_pipelines.writing import recipe, work, writer

_MADE_HERE = 'none needed; it is made by training'
_NO_SPLITS = {'name': tfds.features.Text()}


def write(
  data_dir: str | os.PathLike,
  name: str,
  version: str,
  weights: Mapping[str, np.ndarray],
  about: Mapping[str, Any],
  *,
  summary: str,
  features: Mapping[str, tfds.features.FeatureConnector] | None = None,
  splits: Sequence[writer.Split] = (),
  progress: work.Progress | None = None,
) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.
    name: the data set's, with its configuration if it has one.
    version: as '1.0.0'.
    weights: by path of a leaf of the state of a run, as 'params/conv/kernel'.
      Each is asked for twice, so they need not be in memory.
    about: what made it, as JSON has it; a part of the metadata.
    summary: for people, in a sentence.
    features: of an example of the splits.
    splits: what the data set holds beside the weights.
    progress: told of the records.

  Returns:
    The data set's own directory.
  """
  directory = recipe.place(os.fspath(data_dir), name, version)
  made = {'about': about, 'versions': recipe.versions()}
  identity = tfds.core.dataset_info.DatasetIdentity(
    os.path.basename(os.path.dirname(name)) or name,
    tfds.core.Version(version),
    directory,
    __name__,
    config_name=os.path.basename(name) if os.path.dirname(name) else None,
  )
  info = tfds.core.DatasetInfo(
    builder=identity,
    description=f'{summary}\n{json.dumps(about, sort_keys=True)}',
    # Of no features at all TFDS writes no file, which readers ask for.
    features=tfds.features.FeaturesDict(dict(features or _NO_SPLITS)),
    disable_shuffling=True,
  )
  with writer.begin(directory, {'recipe': name, **made}) as unfinished:
    arrays.write(unfinished.path('data', arrays.WEIGHTS), weights, about)
    return writer.write(unfinished, info, splits, progress=progress)


def recipe_of(
  name: str, summary: str, build: Callable[[recipe.Order], str], **fields
) -> recipe.Recipe:
  """A recipe of start weights without splits; `fields` are its others."""
  return recipe.Recipe(
    name=name,
    summary=summary,
    splits={},
    verify=verify,
    check=lambda features: None,
    build=build,
    **{'licence': _MADE_HERE, **fields},
  )


def verify(directory: str) -> None:
  """Raises unless the directory holds start weights."""
  arrays.of_data_set(directory)


def made_by(module: str) -> Callable[[recipe.Order], str]:
  """A module's `build`; what it imports, as JAX, is imported by a call only."""
  return lambda order: importlib.import_module(module).build(order)
