"""A benchmark: what is trained, on which data, until when, how many times.

The folder `suite/benchmarks/` is the registry: `get('resnet')` imports
`suite.benchmarks.resnet` and returns its `BENCHMARK`. A declaration needs
neither JAX nor a model; the task, in the module beside it, does. Folders that
are added to the path of that package are found too.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import importlib
import pkgutil
from typing import Any

from suite import hparams as hparams_lib
from suite import names as names_lib
from suite import rounds
from suite.hparams import Division
from suite.target import Target

# Found when asked for, not imported: the core knows no benchmark.
_FOLDER = 'suite.benchmarks'


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set by the name that `launch.prepare_data` knows it by.

  '' is none, of a benchmark that makes its own data.
  """

  name: str
  train_samples: int
  eval_samples: int

  def trained(self, hparams: Any) -> int:
    """Samples of an epoch: all, or `train_samples` of the hyperparameters.

    They have such a property where an epoch leaves some out.
    """
    return getattr(hparams, 'train_samples', self.train_samples)


@dataclasses.dataclass(frozen=True)
class Start:
  """Weights that runs start from, by the name of the data set with them.

  Where a digest is declared, weights with another one are refused.
  """

  name: str
  sha256: str = ''  # see `input_pipelines.reading.arrays.Arrays.digest`


@dataclasses.dataclass(frozen=True)
class Size:
  """One size of a benchmark: its reference hyperparameters and its target."""

  hparams: Any  # a frozen dataclass made of `tunable` and `fixed` fields
  target: Target
  ruleset: str  # the official one where there is one, else 'podium-...'
  data: DataSet
  start: Start | None = None  # None: runs start from random weights
  # The round whose limits hold, as 'v0.7'; '' is that of an official ruleset,
  # and otherwise the newest.
  round: str = ''

  def startup_allowance(self, division: Division) -> float:
    """Seconds of startup that do not count."""
    name = self.round or rounds.of_ruleset(self.ruleset)
    return rounds.startup_allowance(name, division)


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Everything the suite knows of a benchmark."""

  name: str  # the log's `submission_benchmark`
  runs: int  # runs that make a result
  dropped: int  # fastest runs, and as many slowest, that the mean leaves out
  sizes: Mapping[str, Size]
  # Curves, convergence points or proofs are still missing: it trains and is
  # tested, and every list, log, record and score says draft.
  draft: bool = False
  # Epochs that lie behind a run when it starts, from its hyperparameters.
  starts_after: Callable[[Any], int] = lambda hparams: 0
  # Keys of statistics that the rules want of the data of each block.
  statistics: Sequence[str] = ()

  @property
  def label(self) -> str:
    """The name for lists, which marks a draft."""
    return f'{self.name} (draft)' if self.draft else self.name

  @property
  def scored(self) -> dict[str, int]:
    """Arguments that say how its runs are scored."""
    return {'runs': self.runs, 'dropped': self.dropped}

  def task(self, hparams: Any, data: DataSet, *, devices: int = 1) -> Any:
    """The `suite.run.task.Task` of a run, for which JAX is imported.

    Its batches are shared by `devices`, the size of the mesh's data axis.
    Raises ValueError where the hyperparameters do not fit each other or these.
    """
    hparams_lib.require_valid(hparams)
    module = importlib.import_module(f'{_FOLDER}.{self.name}.task')
    return module.make_task(hparams, data).shared_by(devices)

  def size(self, name: str) -> Size:
    """The size of that name; ValueError naming the nearest if there is none."""
    names_lib.require(f'size of {self.name}', name, self.sizes)
    return self.sizes[name]


def names() -> tuple[str, ...]:
  """The names of all benchmarks, sorted."""
  return _names(tuple(importlib.import_module(_FOLDER).__path__))


@functools.cache
def _names(folder: Sequence[str]) -> tuple[str, ...]:
  found = [each.name for each in pkgutil.iter_modules(folder) if each.ispkg]
  return tuple(sorted(found))


def finished() -> list[str]:
  """The names of the benchmarks that are no drafts."""
  return [name for name in names() if not get(name).draft]


def get(name: str) -> Benchmark:
  """The benchmark of that name; ValueError naming the nearest if none is."""
  names_lib.require('benchmark', name, names())
  return importlib.import_module(f'{_FOLDER}.{name}').BENCHMARK
