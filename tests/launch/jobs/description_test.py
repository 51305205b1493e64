"""Tests of what a job's description may say."""

import dataclasses
import os
import re
import typing

from absl.testing import absltest, parameterized
import yaml

from launch.jobs import commands, description, faults
from suite import files

GOOD = {
  'benchmark': 'resnet',
  'hardware': 'v5e',
  'chips_per_host': 4,
  'hosts': 16,
  'slices': 4,
  'topology': '4x4',
  'data': '/data',
  'output': '/results/one',
}
SYSTEM = {
  'benchmark': 'resnet',
  'system': 'v5e-16x4',
  'data': '/data',
  'output': '/results/one',
}
GPUS = {
  'benchmark': 'ncf',
  'hardware': 'h100',
  'chips_per_host': 8,
  'hosts': 2,
  'processes_per_host': 4,
  'data': '/data',
  'output': '/results/one',
}


def with_changes(base, **changes):
  """A job of a description with other fields."""
  return description.job({**base, **changes})


class DescriptionTest(parameterized.TestCase):
  def test_what_is_not_said_follows_from_the_benchmark(self):
    job = description.job(GOOD)
    self.assertEqual(job.runs, 5)
    self.assertEqual(job.name, 'resnet-reference')
    self.assertEqual((job.processes, job.chips_per_process), (16, 4))
    self.assertEqual(job.seconds, 4 * 3600)

  def test_processes_share_the_chips_of_a_host(self):
    job = description.job(GPUS)
    self.assertEqual((job.processes, job.chips_per_process), (8, 2))
    told = commands.environment(job)
    self.assertEqual(told['PODIUM_PROCESSES'], '8')
    self.assertEqual(told['PODIUM_DEVICES'], '16')
    self.assertEqual(told['PODIUM_LOCAL_DEVICES'], '2')

  @parameterized.parameters(
    ('resnet', 'global_batch_size'), ('minigo', 'train_batch_size')
  )
  def test_the_batch_is_what_the_benchmark_calls_it(self, benchmark, name):
    job = with_changes(GOOD, benchmark=benchmark, batch=8192)
    self.assertEqual(description.hyperparameters(job), {name: '8192'})
    with self.assertRaisesRegex(ValueError, f'hparams.{name} are the same'):
      with_changes(GOOD, benchmark=benchmark, batch=64, hparams={name: 64})

  @parameterized.parameters((8, False), (4, True), (1, True))
  def test_nccl_groups_its_calls_where_a_process_has_several_gpus(
    self, processes, several
  ):
    told = commands.environment(
      with_changes(GPUS, processes_per_host=processes)
    )
    self.assertEqual('NCCL_LAUNCH_MODE' in told, several)

  def test_flags_say_what_the_description_says(self):
    job = with_changes(
      GOOD,
      division='open',
      batch=32768,
      hparams={'max_epochs': 3},
      compiler_options={'xla_a': True},
      profile='tpu_v5e',
      flags=['--watchdog_seconds=60', '--preflight'],
    )
    flags = commands.run_flags(job)
    for flag in (
      '--benchmark=resnet', '--size=reference', '--division=open',
      '--hp=global_batch_size=32768', '--hp=max_epochs=3',
      '--compiler_option=xla_a=true', '--profile=tpu_v5e', '--platform=tpu',
      '--watchdog_seconds=60', '--preflight', '--data_dir=/data',
    ):  # fmt: skip
      self.assertIn(flag, flags)

  @parameterized.parameters(
    ('1:30:05', 5405),
    ('2-00:00:00', 172800),
  )
  def test_a_time_limit_is_days_hours_minutes_seconds(self, text, seconds):
    self.assertEqual(with_changes(GOOD, time_limit=text).seconds, seconds)

  @parameterized.named_parameters(
    ('benchmark', {'benchmark': 'resent'}, "'resent'"),
    ('size', {'size': 'small'}, 'small'),
    ('field', {'chips_pre_host': 4}, "chips_pre_host.*'chips_per_host'"),
    ('inner', {'slurm': {'partiton': 'a'}}, "slurm 'partiton'.*'partition'"),
    ('section', {'slurm': 'big'}, 'slurm is fields with values'),
    ('hardware', {'hardware': 'v5'}, "'v5'.*cpu, h100"),
    ('minutes', {'time_limit': 60}, "'1:00:00' for 60 minutes"),
    ('colons', {'time_limit': '1:00'}, r'\[days-\]hours:minutes:seconds'),
    ('bucket', {'output': 'gs://b/out'}, 'output is a path on a disk'),
    ('place', {'code': 's3://b/code'}, 'code is a path on a disk'),
    ('division', {'division': 'opened'}, "'opened'.*closed, open"),
    ('status', {'status': 'there'}, 'onprem'),
    ('hosts', {'hosts': 0}, 'hosts is a whole number from 1 on, not 0'),
    ('fraction', {'hosts': 1.5}, 'hosts is a whole number'),
    ('truth', {'hosts': True}, 'hosts is a whole number'),
    ('words', {'chips_per_host': '4'}, "chips_per_host is .*, not '4'"),
    ('retries', {'retries': -1}, 'retries is a whole number from 0 on'),
    ('slices', {'slices': 3}, '16 are not to be shared evenly by 3'),
    ('topology', {'topology': '8x8'}, '8x8 has 64 chips, but 4 hosts of 4'),
    ('form', {'topology': '4*4'}, 'like 16x16'),
    ('processes', {'processes_per_host': 4}, 'one process'),
    ('shares', {'processes_per_host': 3}, 'shared evenly by 3 processes'),
    ('sliced', {'hardware': 'b200'}, 'b200 has no slices'),
    ('time', {'time_limit': 'four hours'}, r'\[days-\]hours:minutes:seconds'),
    ('none', {'time_limit': '0:00:00'}, r'\[days-\]hours'),
    ('name', {'name': 'Big Run'}, "'Big Run'"),
    ('profile', {'profile': 'tpu_v5'}, 'Unknown profile'),
    ('closed', {'hparams': {'max_epochs': 3, 'no': 1}}, "'no'"),
    ('fixed', {'hparams': {'eval_batch_size': 'a'}}, 'eval_batch_size'),
    ('twice', {'batch': 64, 'hparams': {'global_batch_size': 64}}, 'the same'),
    ('nested', {'hparams': {'a': [1]}}, 'hparams is plain values'),
    ('variable', {'environment': {'A-B': 1}}, "'A-B'"),
    ('flag', {'flags': ['watchdog']}, "not 'watchdog'"),
    ('own', {'flags': ['--output=x']}, '--output: it follows'),
    ('list', {'flags': '--a=b'}, 'flags is a list of texts'),
    ('lines', {'output': 'a\nb'}, 'output is one line'),
    ('break', {'python': 'a\u2028b'}, 'python is one line'),
    ('option', {'mpirun': {'options': ['a\x85b']}}, 'options is one line'),
    ('end', {'environment': {'A': 'a\nPODIUM\nb'}}, 'environment is one line'),
    ('key', {'hparams': {'a\nb': 1}}, 'hparams is one line'),
    ('home', {'data': '~/data'}, "'~/data'"),
    ('tpu', {'gcloud': {'tpu': 'my tpu'}}, "'my tpu'"),
  )  # fmt: skip
  def test_a_fault_is_told_in_words(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      with_changes(GOOD, **changes)

  @parameterized.parameters('benchmark', 'hardware', 'data', 'chips_per_host')
  def test_what_has_no_default_is_needed(self, name):
    rest = {n: value for n, value in GOOD.items() if n != name}
    with self.assertRaisesRegex(ValueError, f'^{name} is needed'):
      description.job(rest)

  def test_all_faults_are_told_at_once(self):
    with self.assertRaises(faults.Faults) as caught:
      with_changes(
        GOOD, benchmark='resent', hosts='x', time_limit=60, output='gs://a',
        slurm={'partiton': 'a', 'options': 'b'}, profile='no', flags=['a', 'b'],
        environment={'A-B': 1}, hots=3, status='there',
      )  # fmt: skip
    self.assertLen(caught.exception.texts, 12)
    self.assertRegex(str(caught.exception), '^12 faults:\n  ')

  def test_all_hyperparameters_that_are_wrong_are_told(self):
    with self.assertRaisesRegex(ValueError, "'no'.*max_epochs as"):
      with_changes(GOOD, hparams={'no': 1, 'max_epochs': 'many'})

  def test_faults_that_follow_from_others_are_not_told(self):
    with self.assertRaises(faults.Faults) as caught:
      with_changes(GOOD, chips_per_host='4', batch=-1)
    self.assertLen(caught.exception.texts, 2)


class PageTest(absltest.TestCase):
  def test_the_page_lists_every_field_and_no_other(self):
    page = (files.ROOT / 'docs/launching.md').read_text(encoding='utf-8')
    table = page.partition('### All fields')[2].partition('### ')[0]
    rows = re.findall(r'^\| (`.*?) \|', table, re.M)
    listed = [name for row in rows for name in re.findall('`(.*?)`', row)]
    hints = typing.get_type_hints(description.Job)
    expected = []
    for name, hint in hints.items():
      inside = (
        dataclasses.fields(hint) if dataclasses.is_dataclass(hint) else ()
      )
      expected += [f'{name}.{each.name}' for each in inside] or [name]
    self.assertCountEqual(listed, expected)

  def test_the_page_has_the_defaults_that_are_values(self):
    page = (files.ROOT / 'docs/launching.md').read_text(encoding='utf-8')
    for field in dataclasses.fields(description.Job):
      told = re.search(rf'^\| `{field.name}` \| `?([^`|]*?)`? \|', page, re.M)
      if told and field.default not in (None, '', (), dataclasses.MISSING):
        self.assertEqual(told[1], str(field.default), field.name)


class FileTest(parameterized.TestCase):
  def _file(self, text):
    return self.create_tempfile('job.yaml', text).full_path

  def test_a_file_is_read_and_changed(self):
    path = self._file(yaml.safe_dump(GPUS))
    job = description.read(
      path, ['hosts=16', 'slurm.partition=big', 'time_limit=0:10:00']
    )
    self.assertEqual(job.hosts, 16)
    self.assertEqual(job.slurm.partition, 'big')
    self.assertEqual(job.seconds, 600)

  @parameterized.parameters('4:00:00', "'4:00:00'", '0-4:00:00')
  def test_a_time_limit_is_not_read_to_the_base_of_60(self, text):
    path = self._file(yaml.safe_dump(GPUS) + f'time_limit: {text}')
    self.assertEqual(description.read(path).seconds, 4 * 3600)

  def test_a_time_limit_without_a_unit_is_refused(self):
    path = self._file(yaml.safe_dump(GPUS) + 'time_limit: 60')
    with self.assertRaisesRegex(ValueError, 'no unit'):
      description.read(path)

  @parameterized.parameters(
    ('hosts', 'name=value'),
    ('hots=2', "'hots' .*'hosts'"),
    ('hosts.more=2', 'holds no fields'),
    ('hosts=[', 'hosts=['),
  )
  def test_a_change_that_makes_no_sense_is_told(self, change, message):
    path = self._file(yaml.safe_dump(GPUS))
    with self.assertRaisesRegex(ValueError, message.replace('[', r'\[')):
      description.read(path, [change])

  @parameterized.parameters('- a', 'text', '', 'a: [')
  def test_what_is_no_description_is_told_with_its_path(self, text):
    path = self._file(text)
    with self.assertRaisesRegex(ValueError, os.path.basename(path)):
      description.read(path)


if __name__ == '__main__':
  absltest.main()
