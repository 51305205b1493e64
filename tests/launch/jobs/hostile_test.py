"""Tests that no text of a job's description is run by a shell.

Every field that takes it gets a hostile text, the scripts are run with
stand-ins, and what the text would have a shell do is noticed.
"""

import subprocess
import tempfile

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import yaml

from launch import jobs
from launch.jobs import commands, description
from tests.launch.jobs.stand_ins import StandIns
from tests.launch.jobs.targets_test import embedded, pod

_CPUS = {
  'benchmark': 'resnet', 'size': 'tiny', 'hardware': 'cpu',
  'chips_per_host': 2, 'processes_per_host': 2,
}  # fmt: skip
_GPUS = {**_CPUS, 'hardware': 'h100'}
_TPUS = {
  **_CPUS, 'hardware': 'v5e', 'chips_per_host': 4, 'processes_per_host': 1,
}  # fmt: skip
_BASES = {
  'local': _CPUS, 'slurm': _GPUS, 'mpirun': _CPUS,
  'tpu_vm': {**_TPUS, 'gcloud': {'tpu': 'pod', 'zone': 'here'}},
  'jobset_tpu': {**_TPUS, 'topology': '2x2', 'container': 'image'},
  'jobset_gpu': {**_GPUS, 'container': 'image'},
  'sky': _CPUS,
}  # fmt: skip
# Variables of the hosts, as their launchers set them.
_HOST = {
  'JOB_INDEX': '0', 'JOB_COMPLETION_INDEX': '0', 'SKYPILOT_NODE_RANK': '0',
  'SKYPILOT_NUM_NODES': '1', 'SKYPILOT_NODE_IPS': '10.0.0.1',
}  # fmt: skip
_LAUNCHERS = ('srun', 'mpirun', 'gcloud', 'git', 'tar', 'docker')
_TEXTS = (
  'a\';canary;"$(canary)"`canary` #',
  "\"; canary; '$(canary)' & canary | canary {{canary}} : - * ~ %s, \\",
)
_PIECES = (
  "'", '"', '`', '$(canary)', '`canary`', ';canary;', '|canary', '&canary&',
  '\\', ' ', '*', '?', '~', '#', '{{canary}}', '{%', '%}', '%s', '!', '(', ')',
  '<', '>', '${canary}', '$', '=', ':', ',', '-', '[', ']', '}', '\t', '\n',
  '\u2028', 'PODIUM', 'é', 'a',
)  # fmt: skip


def _changes(text):
  """Descriptions in part, each with the text in one place."""
  yield from (
    {name: text}
    for name in ('data', 'output', 'name', 'profile', 'time_limit', 'topology',
                 'org', 'platform', 'container', 'size', 'hardware')
  )  # fmt: skip
  for name in ('environment', 'hparams', 'compiler_options'):
    yield {name: {'MY_OWN': text}}
    yield {name: {text: 'a'}}
    yield {name: {'xla_a': text}}
  yield {'flags': [f'--watchdog_seconds={text}']}
  yield {'flags': [f'--{text}']}
  yield {'mounts': [text, f'/{text}:/a']}
  for section, kind in (
    ('slurm', description.Slurm), ('mpirun', description.Mpirun),
    ('gcloud', description.Gcloud), ('kubernetes', description.Kubernetes),
    ('sky', description.Sky),
  ):  # fmt: skip
    for name, default in vars(kind()).items():
      if isinstance(default, str):
        yield {section: {name: text}}
      elif isinstance(default, dict):
        yield {section: {name: {text: '/a'}}}
        yield {section: {name: {'a': text}}}
      else:
        yield {section: {name: [text]}}
        yield {section: {name: [f'--a={text}']}}


def _merged(values, change):
  found = dict(values)
  for name, value in change.items():
    before = found.get(name)
    if isinstance(value, dict) and isinstance(before, dict):
      value = _merged(before, value)
    found[name] = value
  return found


class _Hostile:
  """A job that holds a text wherever its target takes it, and its script."""

  def __init__(self, target: str, text: str, folder: str):
    self.stand_ins = StandIns(folder)
    self.stand_ins.canary('canary')
    for name in _LAUNCHERS:
      self.stand_ins.launcher(name)
    values = {**_BASES[target], 'data': '/data', 'output': 'out', 'runs': 1}
    self.fields = 0  # that took it
    for change in (*_changes(text), self._code(text), self._python(text)):
      try:
        changed = _merged(values, change)
        jobs.TARGETS[target].write(description.job(changed))
      except ValueError:
        continue  # it is refused
      values, self.fields = changed, self.fields + 1
    self.job = description.job({'python': str(self.stand_ins.python), **values})
    self.target = target
    self.script = jobs.TARGETS[target].write(self.job)

  def _code(self, text):
    """The project lies in a folder of that name, if there can be one."""
    if _is_name(text):
      (self.stand_ins.folder / text).mkdir()
    return {'code': text}

  def _python(self, text):
    path = self.stand_ins.bin / f'python{text}'
    if _is_name(text):
      path.symlink_to(self.stand_ins.python)
    return {'python': str(path)}

  def run(self) -> str:
    """Runs all that the script can do; what was printed to stderr."""
    script, calls = self.script, [()]
    if self.target == 'sky':
      script = f'({yaml.safe_load(script)["setup"]})\n{embedded(script, "sky")}'
    elif self.target.startswith('jobset'):
      script = embedded(script, self.target)
    elif self.target == 'tpu_vm':
      calls = [('setup',), ('run',), ('stop',), ('collect',)]
    said = ''
    for arguments in calls:
      done = subprocess.run(
        ['bash', '-c', script, 'script', *arguments],
        env=self.stand_ins.environment(STARTS='1', **_HOST),
        cwd=self.stand_ins.folder,
        capture_output=True,
        text=True,
      )
      said += done.stderr
    return said

  def trained(self):
    """Arguments of the calls of launch.train, and variables that they had."""
    return [
      (arguments[arguments.index('launch.train') :], variables)
      for arguments, variables in self.stand_ins.called()
      if 'launch.train' in arguments
    ]


def _is_name(text):
  return text.isprintable() and text not in ('.', '..') and '/' not in text


class HostileTest(parameterized.TestCase):
  def held(self, target, text):
    """Runs the job with the text in all its fields."""
    with tempfile.TemporaryDirectory() as folder:
      hostile = _Hostile(target, text, folder)
      said = hostile.run()
      self.assertEqual(hostile.stand_ins.sung(), '', hostile.script)
      job = hostile.job
      # What was meant arrives, to the letter, where the project is found.
      self.assertNotEmpty(hostile.trained(), f'{said}\n{hostile.script}')
      for arguments, variables in hostile.trained():
        words = commands.train(job)[2:]
        self.assertEqual(arguments, [*words, '--run=0'])
        if 'MY_OWN' in job.environment:
          self.assertEqual(variables['MY_OWN'], job.environment['MY_OWN'])
      if target.startswith('jobset'):
        (container,) = pod(yaml.safe_load(hostile.script))['containers']
        self.assertEqual(container['image'], job.container)
      return hostile.fields

  @parameterized.product(target=list(_BASES), text=_TEXTS)
  def test_no_field_is_run_and_all_arrive_as_they_are(self, target, text):
    self.assertGreater(self.held(target, text), 8)

  @pytest.mark.slow
  @settings(max_examples=300, deadline=None)
  @given(
    st.sampled_from(sorted(_BASES)),
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=9).map(''.join),
  )
  def test_nor_is_any_other_text(self, target, text):
    self.held(target, text)

  def test_the_test_would_notice(self):
    for target in ('slurm', 'jobset_gpu'):
      with tempfile.TemporaryDirectory() as folder:
        hostile = _Hostile(target, 'a', folder)
        hostile.script = hostile.script.replace('set -euo', 'canary; set -euo')
        hostile.run()
        self.assertIn('canary', hostile.stand_ins.sung())


if __name__ == '__main__':
  absltest.main()
