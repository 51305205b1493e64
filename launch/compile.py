r"""Compiles a benchmark's programs for systems that are not here, and reports.

python -m launch.compile --benchmark=resnet --size=reference --system=v5e-256 \
  --hp=global_batch_size=32768 --hp=compute_dtype=bfloat16

Says for every program whether it compiles and fits, what it does and sends, and
what a step takes at best. Several systems, --system=v5e-8,v5e-16, are a sweep:
with --per_chip_batch=N the batch grows with them (weak scaling), else it stays
(strong). Neither accelerators nor data are needed, but the compilers are: the
extras `tpu` and `gpu`. launch/aot/systems.yaml lists systems and rates.
Exit code: 0 all compile and fit, 1 not all do, 2 it can't be tried.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags as absl_flags

from launch import profiles
from launch.aot import options, systems, tables, targets
from launch.support import chip_batch, cli, run_flags
from launch.support.live_line import LiveLine
from suite import files, names
from suite.results.report.format import duration

FLAGS = absl_flags.FLAGS
_LINES_SHOWN = 15
# The shared flags that it reads.
_READ = (
  'benchmark', 'size', 'division', 'hp', 'profile', 'compiler_option',
  'model_axis', 'spread', 'groups_across_hosts', 'compile_cache',
)  # fmt: skip


def define_flags() -> None:
  """The flags that say what is trained, and for what it is compiled."""
  run_flags.define(only=_READ)
  absl_flags.DEFINE_string(
    'system',
    '',
    'What to compile for: v5e-256, v5e-256x2, v5p-512, h100-64; several with '
    'commas between are a sweep.',
  )
  absl_flags.DEFINE_integer(
    'per_chip_batch',
    None,
    'Samples of a train step on each chip, in place of the global batch.',
    lower_bound=1,
  )
  absl_flags.DEFINE_list(
    'programs', [], 'Of train_step, predict, init and staged; by default all.'
  )
  absl_flags.DEFINE_bool(
    'details', False, "Whether a sweep's part of --document has them."
  )
  absl_flags.DEFINE_string('json', '', 'A file for the whole report.')
  absl_flags.DEFINE_string(
    'document', '', 'A Markdown file whose --section gets the tables.'
  )
  absl_flags.DEFINE_string(
    'section', '', 'Stands in the markers of --document that the tables go to.'
  )
  # What is kept is of another kind than what other programs keep.
  beside = os.path.dirname(FLAGS['compile_cache'].default)
  FLAGS.set_default('compile_cache', os.path.join(beside, 'aot'))


def main() -> int:
  """Compiles for every system, prints and writes what was asked for."""
  request = run_flags.request()
  chosen = systems.several(FLAGS.system)
  if bool(FLAGS.document) != bool(FLAGS.section):
    raise ValueError('--document and --section need each other.')
  if FLAGS.document:
    fill(_document(), FLAGS.section, '')  # refuse at once
  for system in chosen:
    targets.require(system)
  profiles.apply(request.profile)
  options.require_known_flags()
  reports = []
  for system in chosen:
    report = compile_for(system, job(request, system))
    if 'refused' in report and len(chosen) == 1:
      return cli.refuse(report['refused'])
    reports.append(report)
    print(f'\n{tables.one(report)}\n', flush=True)
  if len(reports) > 1:
    print('\n\n'.join(_shown(reports, details=False)))
  _write(request, reports)
  return 0 if all(tables.fits(report) for report in reports) else 1


def job(request: run_flags.Request, system: systems.System) -> dict[str, Any]:
  """The worker's job; ValueError for a batch given twice."""
  hp = chip_batch.changes(
    names.assignments('hp', FLAGS.hp),
    request.hparams,
    FLAGS.per_chip_batch,
    chips=system.chips,
    ways=max(1, system.devices // FLAGS.model_axis),
  )
  return {
    'benchmark': request.benchmark.name,
    'size': request.size_name,
    'system': system.name,
    'division': request.division.value,
    'hp': hp,
    'model_axis': FLAGS.model_axis,
    'spread': FLAGS.spread,
    'groups_across_hosts': FLAGS.groups_across_hosts,
    'options': {
      name: _number(value)
      for name, value in request.profile.compiler_options.items()
    },
    'programs': FLAGS.programs,
    'cache': FLAGS.compile_cache,
  }


def _number(value: profiles.Value) -> profiles.Value | float:
  """An option's value, of the type that XLA wants of '-1.0'."""
  if isinstance(value, str) and re.fullmatch(r'-?\d+\.\d*', value):
    return float(value)
  return value


def compile_for(
  system: systems.System, asked: Mapping[str, Any]
) -> Mapping[str, Any]:
  """The worker's report on one system.

  What it refuses is under 'refused', and so is the compiler's last word where
  it ends without an answer; what it said before goes to standard error.
  """
  line = LiveLine(sys.stdout)
  open_file = functools.partial(tempfile.TemporaryFile, 'w+', encoding='utf-8')
  with open_file() as given, open_file() as errors:
    given.write(json.dumps(asked))
    given.seek(0)
    with _worker(system, given, errors) as child:
      try:
        for event in _events(child, system, line):
          if 'report' in event:
            return event['report']
          if 'refused' in event:
            return {'name': system.name, 'refused': event['refused']}
        code = child.wait()
      finally:
        child.kill()  # it holds nothing that needs an orderly end
        line.clear()
    errors.seek(0)
    said = [text for text in errors.read().splitlines() if text.strip()]
  print('\n'.join(said[-_LINES_SHOWN:]), file=sys.stderr)
  last = said[-1].strip() if said else 'it said nothing'
  return {
    'name': system.name,
    'refused': f'The compiler ended with code {code}: {last}',
  }


def fill(document: str, section: str, text: str) -> str:
  """A document with `text` between the markers of a section.

  Markers are '<!-- NAME: begin -->' and '<!-- NAME: end -->'.
  """
  begin, end = (f'<!-- {section}: {word} -->' for word in ('begin', 'end'))
  if document.count(begin) != 1 or document.count(end) != 1:
    raise ValueError(f'Expected {begin!r} and {end!r} once in the document.')
  before, _, rest = document.partition(begin)
  _, _, after = rest.partition(end)
  return f'{before}{begin}\n\n{text}\n\n{end}{after}'


def _worker(system: systems.System, given, errors) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, '-m', 'launch.aot.worker'],
    stdin=given,
    stdout=subprocess.PIPE,
    stderr=errors,
    env=os.environ | targets.environment(system),
    text=True,
  )


def _events(child, system, line) -> Iterator[Mapping[str, Any]]:
  """Events of the worker, shown on the way."""
  began = time.monotonic()
  for text in child.stdout:
    if not text.startswith('{'):
      continue  # a library's own words
    event = json.loads(text)
    if 'stage' in event:
      spent = duration(time.monotonic() - began)
      line.show(f'{system.name}: {event["stage"]} ... ({spent} so far)')
    if 'program' in event:
      how = 'known from before' if event['cached'] else 'compiled'
      line.keep(
        f'{system.name}: {event["program"]} {how}, {duration(event["seconds"])}'
      )
    yield event


def _shown(reports: Sequence[Mapping[str, Any]], *, details: bool) -> list[str]:
  """Parts of the reports that a sweep, or a document, shows."""
  if len(reports) == 1:
    return [tables.one(reports[0])]
  short = filter(None, [tables.sweep(reports), tables.breaking_point(reports)])
  return [*short] + ([tables.one(r) for r in reports] if details else [])


def _write(request, reports) -> None:
  command = ' '.join(['python -m launch.compile', *_arguments()])
  if FLAGS.json:
    files.write_json(
      FLAGS.json,
      {
        'format': 1,
        'benchmark': request.benchmark.name,
        'size': request.size_name,
        'division': request.division.value,
        'profile': request.profile.name,
        'command': command,
        'reports': reports,
      },
    )
  if FLAGS.document:
    parts = [f'```\n{command}\n```', *_shown(reports, details=FLAGS.details)]
    filled = fill(_document(), FLAGS.section, '\n\n'.join(parts))
    files.write_text(FLAGS.document, filled)


def _arguments() -> list[str]:
  """Arguments of this command, without those that say where it writes."""
  where = ('--json', '--document', '--section', '--details',
           '--compile_cache')  # fmt: skip
  return [a for a in sys.argv[1:] if a.partition('=')[0] not in where]


def _document() -> str:
  return pathlib.Path(FLAGS.document).read_text(encoding='utf-8')


if __name__ == '__main__':
  cli.run(main, define=define_flags)
