"""Quality at an eval, and the bounds that end a run, from above or below."""

from collections.abc import Mapping
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Target:
  """Bounds by metric name; all must hold: `Target(at_least={'BLEU': 25.0})`."""

  at_least: Mapping[str, float] = dataclasses.field(default_factory=dict)
  at_most: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.at_least and not self.at_most:
      raise ValueError('A target needs at least one bound.')

  @classmethod
  def of(cls, bounds: Mapping[str, Mapping[str, float]]) -> 'Target':
    """The target that `as_dict` wrote."""
    return cls(**{
      side: {name: b[side] for name, b in bounds.items() if side in b}
      for side in ('at_least', 'at_most')
    })  # fmt: skip

  @property
  def metrics(self) -> list[str]:
    """Names of the metrics that have a bound."""
    return list({**self.at_least, **self.at_most})

  def met_by(self, quality: Mapping[str, float]) -> bool:
    """Holds `quality` to every bound; a value that is no number meets none.

    Raises KeyError when `quality` lacks a metric that the target names.
    """
    return all(quality[k] >= bound for k, bound in self.at_least.items()) and (
      all(quality[k] <= bound for k, bound in self.at_most.items())
    )

  def out_of_reach(self) -> 'Target':
    """Bounds of the same metrics that no quality meets: the whole budget."""
    return Target(
      dict.fromkeys(self.at_least, math.inf),
      dict.fromkeys(self.at_most, -math.inf),
    )

  def as_dict(self) -> dict[str, dict[str, float]]:
    """{'accuracy': {'at_least': 0.759}}, for results and reports."""
    bounds: dict[str, dict[str, float]] = {}
    for name, bound in self.at_least.items():
      bounds.setdefault(name, {})['at_least'] = bound
    for name, bound in self.at_most.items():
      bounds.setdefault(name, {})['at_most'] = bound
    return bounds

  def __str__(self) -> str:
    parts = [f'{k} >= {v:g}' for k, v in self.at_least.items()]
    parts += [f'{k} <= {v:g}' for k, v in self.at_most.items()]
    return ' and '.join(parts)


@dataclasses.dataclass(frozen=True)
class Eval:
  """Quality at one point of a run."""

  at: Mapping[str, float]  # as the log names the place: {'epoch_num': 4}
  step: int  # training steps done
  seconds: float  # on the clock, when the quality was known
  quality: Mapping[str, float]
  # Statistics of the data of the block before, by key of the log.
  statistics: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def place(self) -> float:
    """Place in training, in the first unit that the log names."""
    return next(iter(self.at.values()), self.step)
