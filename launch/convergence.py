"""Convergence points: checks runs against them, makes them, reads recipes off.

python -m launch.convergence --runs=results/first
python -m launch.convergence --runs=results/first --ruleset=4.0.0
python -m launch.convergence --runs=results/first --rcps=FILE

says whether the runs converged suspiciously early, and what their times are to
be multiplied by, against the points of the ruleset that the logs name, of
another one, or of a file.

python -m launch.convergence --runs=results/reference --make=FILE
python -m launch.convergence --curves=FILE.csv --make=FILE

makes points of runs of the reference (--runs may be given again; a folder may
hold folders of runs, one for each batch size), or of a table of whole curves.

python -m launch.convergence --size=reference --global_batch_size=6144

suggests hyperparameters for a batch size, as flags of launch.train. Exit code:
0 all passed, or it was written, 1 runs that do not pass, 2 refused.
"""

from collections.abc import Iterator, Mapping, Sequence
import datetime
from typing import Any

from absl import flags as absl_flags

from launch.support import cli
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.benchmark import Benchmark, Size
from suite.results import audit, convergence, scoring
from suite.results.audit import compared, reached
from suite.results.audit.claim import Lookup
from suite.results.audit.runs import COUNT
from suite.results.convergence import Point, Points, curves, store

FLAGS = absl_flags.FLAGS

# What logs of benchmarks unknown here say of how they were trained.
_TRAINED_WITH = ('opt_', 'lars_', 'sgd_', 'lora_', 'model_bn_span',
                 'gradient_accumulation_steps')  # fmt: skip
# Rules of the audit that runs of the reference need not keep: they are more
# than a result, and it is they that say what fast is.
_OF_RESULTS = (COUNT, compared.RULE)


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_multi_string(
    'runs', [], 'A folder of result_<number>.txt; may be given again.'
  )
  absl_flags.DEFINE_string(
    'rcps', '', 'A file of points in the official format, to compare with.'
  )
  absl_flags.DEFINE_string(
    'ruleset', '', 'The round whose points to compare with, such as 4.0.0.'
  )
  absl_flags.DEFINE_string('make', '', 'File to write points to.')
  absl_flags.DEFINE_string(
    'curves', '', 'A CSV of whole curves, by studies/curves.py, for --make.'
  )
  absl_flags.DEFINE_integer(
    'global_batch_size', 0, 'Suggest hyperparameters for this batch size.'
  )
  absl_flags.DEFINE_string(
    'benchmark', 'resnet', 'Of --curves or a batch size.'
  )
  absl_flags.DEFINE_string('size', 'tiny', 'Of --curves or a batch size.')
  for name, text in (
    ('creator', 'Who made the points.'),
    ('platform', 'What the points were made on.'),
    ('when', 'When the points were made; by default today.'),
  ):
    absl_flags.DEFINE_string(name, '', text)


def main() -> int:
  """Does what the flags ask for; returns the exit code."""
  if FLAGS.global_batch_size:
    _refuse_beside('global_batch_size', 'runs', 'curves', 'make')
    return print_recipe(
      benchmark_lib.get(FLAGS.benchmark),
      FLAGS.size,
      FLAGS.global_batch_size,
      ruleset=FLAGS.ruleset,
      rcps=FLAGS.rcps,
    )
  if FLAGS.make:
    _refuse_beside('make', 'ruleset', 'rcps')
    return _make_from_flags()
  if FLAGS.runs:
    _refuse_beside('runs', 'curves')
    return check(FLAGS.runs, ruleset=FLAGS.ruleset, rcps=FLAGS.rcps)
  raise ValueError(
    'Expected --runs=DIR to check, --make=FILE to make points, or '
    '--global_batch_size=N for hyperparameters, got none of them.'
  )


def check(
  directories: Sequence[str],
  *,
  ruleset: str = '',
  rcps: str = '',
  get: Lookup = benchmark_lib.get,
) -> int:
  """Prints a verdict on each folder of runs; 0 if all pass, else 1.

  The points are those of a file, of a ruleset, or of the logs' own.
  """
  if ruleset and rcps:
    raise ValueError('Expected --ruleset or --rcps, got both.')
  failed = 0
  for directory in directories:
    checked = audit.examine_runs(directory, get)
    try:
      found = reached.of(checked.runs)
    except ValueError as error:
      raise ValueError(f'{directory}: {error}') from None
    logged = next(iter(checked.runs.values())).claim.ruleset
    points = _points(
      found.benchmark, checked.benchmark, ruleset or logged, rcps
    )
    verdict = reached.judge(checked.runs, points)
    values = ', '.join(
      'never' if value is None else f'{value:g}'
      for value in found.values.values()
    )
    print(
      f'{directory}: {found.benchmark}, batch {found.batch_size}, '
      f'{points.unit} to the target: {values}'
    )
    if others := audit.errors(checked.findings, beside=(compared.RULE,)):
      print(f'warning: launch.check finds other errors here: {len(others)}.')
    print(verdict)
    failed += not verdict.passed
  return 1 if failed else 0


def _points(
  name: str, benchmark: Benchmark | None, ruleset: str | None, rcps: str
) -> Points:
  """The points of a file, or else of a ruleset."""
  scored = benchmark.scored if benchmark else {}
  if rcps:
    return store.load(rcps, **scored)
  if not ruleset:
    raise ValueError(
      f'The rules of {name!r} are unknown here; give --ruleset or --rcps.'
    )
  return store.find(name, ruleset, **scored)


def make(
  directories: Sequence[str],
  *,
  origin: Mapping[str, str],
  get: Lookup = benchmark_lib.get,
) -> Points:
  """Points of folders of reference runs, those of one batch size together.

  Raises ValueError for runs that are no reference: faulty logs, a run that did
  not converge, several settings at one batch size, too few runs.
  """
  leaves = [f for d in directories for f in scoring.folders(d) or [d]]
  sets = [audit.examine_runs(folder, get) for folder in leaves]
  by_size: dict[int, list[audit.SetAudit]] = {}
  for one in sets:
    _require_sound(one)
    by_size.setdefault(reached.of(one.runs).batch_size, []).append(one)
  first = sets[0]
  benchmark = reached.of(first.runs).benchmark
  points = [
    _point(benchmark, batch_size, by_size[batch_size], origin)
    for batch_size in sorted(by_size)
  ]
  return _assemble(
    benchmark, points, first.benchmark.scored if first.benchmark else {}
  )


def make_from_curves(
  path: str, benchmark: Benchmark, size: Size, *, origin: Mapping[str, str]
) -> Points:
  """The point of a size's reference, of a table of whole curves.

  Seeds that missed the target are left out, if they are as few as a target may
  lose. So the point is earlier, and what it finds too early surely is.
  """
  found = curves.reached(path, size.target)
  values = [value for value in found if value is not None]
  missed = len(found) - len(values)
  if missed > curves.MOST_MISSED * len(found):
    least = f'{1 - curves.MOST_MISSED:.0%}'
    raise ValueError(
      f'Expected at least {least} of the reference runs in {path} to meet '
      f'{size.target}, got {len(values)} of {len(found)}.'
    )
  if missed:
    print(f'left out: {missed} of {len(found)} runs, which missed the target')
  settings, batch_size = _settings(size.hparams)
  point = Point(
    name=f'{benchmark.name}_ref_{batch_size}',
    batch_size=batch_size,
    values=tuple(int(v) if v == int(v) else v for v in values),
    hparams=settings,
    origin=origin,
  )
  return _assemble(benchmark.name, [point], benchmark.scored)


def print_recipe(
  benchmark: Benchmark,
  size_name: str,
  batch_size: int,
  *,
  ruleset: str = '',
  rcps: str = '',
) -> int:
  """Prints how to train at a batch size; ValueError where nothing is known."""
  size = benchmark.size(size_name)
  points = _points(benchmark.name, benchmark, ruleset or size.ruleset, rcps)
  if points.benchmark != benchmark.name:
    raise ValueError(
      f'Expected points of {benchmark.name}, got those of {points.benchmark}.'
    )
  recipe = convergence.suggest(points, batch_size, size.hparams)
  for line in recipe_lines(recipe, benchmark, size_name):
    print(line)
  return 0


def recipe_lines(
  recipe: convergence.Recipe, benchmark: Benchmark, size_name: str
) -> Iterator[str]:
  """A recipe for people, ending in the command that trains by it."""
  for warning in recipe.warnings:
    yield f'warning: {warning}'
  for key, value in recipe.left_out.items():
    yield f'warning: {key}={value!r} of the points is no setting here.'
  for name, value in recipe.changes.items():
    yield f'{name} = {value}: {recipe.reasons[name]}'
  command = ['python -m launch.train', f'--benchmark={benchmark.name}']
  command.append(f'--size={size_name}')
  try:
    hparams.override(
      benchmark.size(size_name).hparams,
      dict(flag.removeprefix('--hp=').split('=', 1) for flag in recipe.flags),
      hparams.Division.CLOSED,
    )
  except ValueError as error:
    yield f'warning: {error}'
    command.append('--division=open')
  yield ' '.join([*command, *recipe.flags])


def _make_from_flags() -> int:
  if bool(FLAGS.runs) == bool(FLAGS.curves):
    raise ValueError('--make takes --runs=DIR or --curves=FILE, one of them.')
  today = datetime.datetime.now(datetime.UTC).date().isoformat()
  origin = {
    'Creator': FLAGS.creator,
    'When': FLAGS.when or today,
    'Platform': FLAGS.platform,
  }
  if FLAGS.curves:
    benchmark = benchmark_lib.get(FLAGS.benchmark)
    size = benchmark.size(FLAGS.size)
    points = make_from_curves(FLAGS.curves, benchmark, size, origin=origin)
  else:
    points = make(FLAGS.runs, origin=origin)
  store.save(FLAGS.make, points)
  for expected in points.expected:
    runs = len(expected.sources[0].values)
    print(
      f'{points.benchmark} at batch {expected.batch_size}: {runs} runs, '
      f'{expected.mean:.6g} {points.unit} on average, standard deviation '
      f'{expected.std:.4g}, least mean that passes {expected.minimum:.6g}'
    )
  print(FLAGS.make)
  return 0


def _refuse_beside(flag: str, *others: str) -> None:
  for other in others:
    if FLAGS[other].value:
      raise ValueError(f'--{flag} and --{other} do not go together.')


def _require_sound(one: audit.SetAudit) -> None:
  if faults := audit.errors(one.findings, beside=_OF_RESULTS):
    more = f' (and {len(faults) - 1} more)' if len(faults) > 1 else ''
    raise ValueError(f'Expected sound logs of the reference: {faults[0]}{more}')
  values = reached.of(one.runs).values
  for run, value in values.items():
    if value is None:
      raise ValueError(
        f'Expected every run of the reference to converge; run {run} did not.'
      )


def _point(
  benchmark: str,
  batch_size: int,
  sets: Sequence[audit.SetAudit],
  origin: Mapping[str, str],
) -> Point:
  runs = [run for one in sets for run in one.runs.values()]
  settings = [_logged(run) for run in runs]
  for other in settings:
    if other != settings[0]:
      keys = {*other, *settings[0]}
      odd = sorted(k for k in keys if other.get(k) != settings[0].get(k))
      raise ValueError(
        f'Expected one set of hyperparameters at batch {batch_size}; '
        f'{", ".join(odd)} differ between runs.'
      )
  seeds = [run.seed for run in runs]
  if len(set(seeds)) < len(seeds):
    raise ValueError(
      f'Expected a seed of its own for each run at batch {batch_size}.'
    )
  log = runs[0].log
  logged = {
    'Creator': log.value('submission_org'),
    'Platform': log.value('submission_platform'),
  }
  values = [
    value for one in sets for value in reached.of(one.runs).values.values()
  ]
  return Point(
    name=f'{benchmark}_ref_{batch_size}',
    batch_size=batch_size,
    values=tuple(values),
    hparams=settings[0],
    origin={k: v or str(logged.get(k) or '') for k, v in origin.items()},
  )


def _logged(run: audit.LogAudit) -> dict[str, Any]:
  """Settings that a run was trained with, by the log's keys."""
  if run.claim.hparams is not None:
    return _settings(run.claim.hparams)[0]
  return {
    key: setting.first.value
    for key, setting in run.log.settings.items()
    if key.startswith(_TRAINED_WITH)
  }


def _settings(values: Any) -> tuple[dict[str, Any], int]:
  """Tunable settings, by the log's keys, and the global batch."""
  found = {
    declared.key: declared.value
    for declared in hparams.declared(values)
    if declared.tunable and declared.key
  }
  return found, found.pop(hparams.batch(values).key)


def _assemble(
  benchmark: str, points: Sequence[Point], scored: Mapping[str, int]
) -> Points:
  made = store.assemble(benchmark, points, **scored)
  for point in made.points:
    if len(point.values) < 2 * made.runs:
      raise ValueError(
        f'Expected at least {2 * made.runs} runs of the reference at batch '
        f'{point.batch_size}, twice those of a result, '
        f'got {len(point.values)}.'
      )
  return made


if __name__ == '__main__':
  cli.run(main, define=define_flags)
