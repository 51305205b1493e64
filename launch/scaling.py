r"""A scaling study: what more devices, or a larger batch, do to training time.

python -m launch.scaling --mode=strong --devices=1,2,4 --output=results/strong
python -m launch.scaling --mode=weak --devices=1,2,4 --batch=64 \
  --output=results/weak
python -m launch.scaling --mode=batch --batches=32,128,512 --output=results/b

Every point is a set of runs in a folder of its own, made as launch.benchmark
makes them; the points take turns, so that a busy hour harms all equally. Ended
in the middle, the same command continues; with more points it adds those. Where
the points need systems of their own, --jobs=FILE writes a job of each for
launch.submit, and --collect=DIR reads what they left. Writes scaling.json,
scaling.html and the folder scaling/ into OUTPUT. Exit code: 0 every point has a
time to quality, 1 one has none or a run failed, 2 refused, 128 + n ended by
signal n.
"""

from collections.abc import Sequence
import glob
import os
import shlex
import sys

from absl import flags as absl_flags

from launch import benchmark
from launch.support import cli, run_flags, scaling_jobs, scaling_plan
from launch.support.scaling_plan import Place
from suite import benchmark as benchmark_lib
from suite import files, hparams, names
from suite.results import audit, records, scaling
from suite.results.audit import compared
from suite.results.audit.quality import CONVERGED
from suite.results.audit.runs import COUNT
from suite.results.records import RunRecord
from suite.results.report import export
from suite.results.report import scaling as page
from suite.results.scaling import Point

FLAGS = absl_flags.FLAGS

# What the audit wants of a result: a study has fewer runs, may leave the
# batches that convergence is known of, and counts itself who met the target.
_OF_RESULTS = (COUNT, compared.RULE, CONVERGED)
_FAKE = (
  'These devices are shares of the cores of one machine: throughput over '
  'devices shows the mechanics, not what more hardware brings.'
)


def define_flags() -> None:
  """The shared flags, and those of a study."""
  run_flags.define()
  absl_flags.DEFINE_enum(
    'mode',
    'strong',
    scaling_plan.MODES,
    'strong: the global batch stays. weak: the batch of one device stays. '
    'batch: the devices stay.',
  )
  absl_flags.DEFINE_list('devices', ['1'], 'Devices of each point.')
  absl_flags.DEFINE_list(
    'processes', ['1'], 'Processes: one number, or one for each of --devices.'
  )
  absl_flags.DEFINE_integer(
    'batch',
    None,
    'strong: the global batch; weak: that of one device. By default the '
    "reference's, at the fewest devices.",
    lower_bound=1,
  )
  absl_flags.DEFINE_list('batches', [], 'Global batches, for --mode=batch.')
  absl_flags.DEFINE_enum(
    'rule',
    'root',
    scaling_plan.RULES,
    'How hyperparameters follow the batch. root, linear, same: learning rates '
    'go with its root, with it, or stay; steps go so that epochs stay. points: '
    'those of the convergence points of the ruleset. --hp takes precedence.',
  )
  absl_flags.DEFINE_multi_string(
    'hp_at',
    [],
    'A hyperparameter at one global batch, as batch:name=value; takes '
    'precedence over --hp.',
  )
  absl_flags.DEFINE_integer('runs', 3, 'Runs of each point.', lower_bound=1)
  absl_flags.DEFINE_string('output', '', 'Directory of the study.')
  absl_flags.DEFINE_string(
    'jobs', '', 'A job description (YAML) to write one like for each point.'
  )
  absl_flags.DEFINE_string(
    'collect', '', 'Directory with a folder of runs for each point, to read.'
  )
  absl_flags.DEFINE_bool('dry_run', False, 'Show the points and end.')


def main() -> int:
  """Makes the study, or what was asked of it; see the module."""
  if FLAGS.collect:
    return _conclude(_collected(FLAGS.collect), FLAGS.output or FLAGS.collect)
  # What --hp says must fit the batch of each point, not that of the reference.
  request = run_flags.request(hp=())
  places = scaling_plan.places(request, _asked())
  if FLAGS.jobs:
    places = [scaling_jobs.placed(place, FLAGS.jobs) for place in places]
  for line in _plan(places, request):
    print(line, flush=True)
  if FLAGS.dry_run:
    return 0
  if not FLAGS.output:
    raise ValueError('--output=DIR is needed: where the study goes.')
  if FLAGS.jobs:
    return _write_jobs(places, FLAGS.jobs, FLAGS.output)
  ended = _run(places, FLAGS.output)
  if ended:
    again = ['python', '-m', 'launch.scaling', *sys.argv[1:]]
    print(f'To continue from here:\n  {shlex.join(again)}', file=sys.stderr)
    return ended
  folders = {os.path.join(FLAGS.output, p.name): p for p in places}
  for folder, place in folders.items():
    _require_place(folder, place)
  return _conclude(list(folders), FLAGS.output)


def _asked() -> scaling_plan.Asked:
  return scaling_plan.Asked(
    mode=FLAGS.mode,
    devices=scaling_plan.numbers('devices', FLAGS.devices),
    processes=scaling_plan.numbers('processes', FLAGS.processes),
    batch=FLAGS.batch,
    batches=scaling_plan.numbers('batches', FLAGS.batches),
    rule=FLAGS.rule,
    changes=dict(text.partition('=')[::2] for text in FLAGS.hp),
    at=scaling_plan.at_batches(FLAGS.hp_at),
  )


def _plan(places: Sequence[Place], request: run_flags.Request) -> list[str]:
  head = (
    f'{request.benchmark.name}, size {request.size_name}, until '
    f'{request.size.target}: {names.counted(len(places), "point")} of '
    f'{names.counted(FLAGS.runs, "run")}'
  )
  return [head] + [
    f'  {place.name}: {names.counted(place.devices, "device")} in '
    f'{names.counted(place.processes, "process")}, '
    + ', '.join(f'{name} {text}' for name, text in place.changes.items())
    for place in places
  ]


def _run(places: Sequence[Place], output: str) -> int:
  """Makes every run that is not there; 0, or an exit code to end on."""
  files.claim_directory(output)
  kind = scaling_plan.platform(FLAGS.platform)
  pace = benchmark.Pace(FLAGS.runs * len(places))
  runners = []
  for place in places:
    variables = scaling_plan.variables(place, kind)
    folder = os.path.join(output, place.name)
    like = benchmark.settings(place.request, FLAGS.runs)
    lock = benchmark.claim(folder, {
      **like, 'devices': place.devices, 'processes': place.processes
    })  # fmt: skip
    runners.append(
      benchmark.Runner(
        place.request, folder, FLAGS.runs, arguments=place.arguments,
        environment=variables, start=place.start, name=place.name, pace=pace,
        lock=lock,
      )
    )  # fmt: skip
  for run in range(FLAGS.runs):
    for runner in runners:
      if ended := runner.run(run):
        return ended
  return 0


def _write_jobs(places: Sequence[Place], path: str, output: str) -> int:
  """Writes a job like that of `path` for each point; prints how to continue."""
  made = [scaling_jobs.job(place, path, FLAGS.runs) for place in places]
  files.claim_directory(output)
  for values in made:
    target = os.path.join(output, f'{values["name"]}.yaml')
    files.write_text(target, scaling_jobs.text(values))
    print(f'python -m launch.submit --job={target} --target=TARGET')
  results = os.path.dirname(made[0]['output'])
  print(f'When all are done: python -m launch.scaling --collect={results}')
  return 0


def _require_place(folder: str, place: Place) -> None:
  """RuntimeError unless the runs of a point were made on its devices."""
  point = _point(folder, records.read_runs(folder))
  asked = place.devices, place.processes, place.batch
  if (point.devices, point.processes, point.batch) != asked:
    raise RuntimeError(f'{place.name} was made on {point.name}.')


def _collected(directory: str) -> list[str]:
  """The folders of runs in a directory."""
  found = sorted(
    {os.path.dirname(p) for p in glob.glob(f'{directory}/*/run_*.json')}
  )
  if not found:
    raise ValueError(
      f'Expected folders with run_<i>.json in {directory}, got none.'
    )
  return found


def _conclude(folders: Sequence[str], output: str) -> int:
  """Reads the points, writes the study, and prints it."""
  found = {folder: records.read_runs(folder) for folder in folders}
  first = next(iter(found.values()))[0]
  every = [record for each in found.values() for record in each]
  records.require_one_kind(every, 'one study')
  points = scaling.ordered([_point(*each) for each in found.items()])
  mode = _mode(points)
  notes = [note for folder in folders for note in _notes(folder)]
  if mode != 'batch' and first.system.get('platform') == 'cpu':
    notes.append(_FAKE)
  command = ['python', '-m', 'launch.scaling', *sys.argv[1:]]
  report = page.build(
    points, mode=mode, record=first, command=command, notes=notes
  )
  files.claim_directory(output)
  files.write_json(os.path.join(output, 'scaling.json'), {
    'format': 1,
    'mode': mode,
    **records.plain(first.kind),
    'system': first.system,
    'versions': first.versions,
    'command': command,
    'notes': notes,
    'points': page.table(points),
  })  # fmt: skip
  export.write(os.path.join(output, 'scaling'), report.figures, report.tables)
  path = os.path.join(output, 'scaling.html')
  files.write_text(path, report.html)
  print()
  for line in [*page.lines(points), *notes]:
    print(line)
  print(f'Report: {os.path.abspath(path)}')
  return 0 if all(point.kept for point in points) else 1


def _point(folder: str, found: Sequence[RunRecord]) -> Point:
  """The point that the runs of a folder make; they must be of one."""
  spots = {
    (
      record.devices,
      record.system['processes'],
      hparams.batch_in(record.hyperparameters).value,
    )
    for record in found
  }
  if len(spots) > 1:
    raise ValueError(
      'Expected runs with as many devices and processes and one batch in '
      f'{folder}, got {sorted(spots)}.'
    )
  ((devices, processes, batch),) = spots
  known = benchmark_lib.get(found[0].benchmark)
  return Point(
    devices,
    processes,
    batch,
    tuple(scaling.run_of(record) for record in found),
    # As in a result, where there are as many runs as in one.
    dropped=known.dropped if len(found) >= known.runs else 0,
  )


def _mode(points: Sequence[Point]) -> str:
  """Mode by what the points differ in, whatever was intended."""
  if len({point.devices for point in points}) == 1 < len(points):
    return 'batch' if len({p.batch for p in points}) > 1 else 'strong'
  return 'strong' if len({point.batch for point in points}) == 1 else 'weak'


def _notes(folder: str) -> list[str]:
  """Faults that the audit finds in the runs of a point."""
  found = audit.examine_set(folder).findings
  faults = audit.errors(found, beside=_OF_RESULTS)
  return [f'{os.path.basename(folder)}: {fault}' for fault in faults]


if __name__ == '__main__':
  cli.run(main, define=define_flags)
