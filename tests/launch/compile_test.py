"""Tests of launch.compile, but for the compilers themselves."""

import json
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, flagsaver, parameterized

from launch import compile as compile_lib
from launch.aot import systems, targets
from tests.launch import entrypoint_flags


def _report(system, job, peak=1):
  """A worker's report on one chip that is busy for a second."""
  return {
    'system': {'name': system.name, 'chips': system.chips,
               'shape': system.shape(), 'devices': system.devices},
    'mesh': {'data': system.devices},
    'versions': {},
    'batch': int(job['hp'].get('global_batch_size', 128)),
    'eval_batch': 64,
    'programs': {'train_step': {
      'compiles': True, 'why_not': '', 'cached': False, 'seconds': 1.0,
      'memory': {'arguments': 1, 'outputs': 0, 'aliased': 0, 'temporaries': 0,
                 'code': 0, 'peak': peak, 'capacity': 1, 'fits': peak <= 1},
      'operations': {}, 'model_operations': {},
      'model_operations_certain': True, 'traffic': 1, 'collectives': [],
      'roofline': {'compute': 1.0, 'memory': 0.0, 'network': 0.0},
    }},
  }  # fmt: skip


class MainTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    names = entrypoint_flags.define(compile_lib)
    self.addCleanup(entrypoint_flags.remove, names)
    self.jobs = []
    self.answer = _report

    def compile_for(system, job):
      self.jobs.append(job)
      return self.answer(system, job)

    for module, name, stand_in in (
      (compile_lib, 'compile_for', compile_for),
      (targets, 'require', lambda system: None),
    ):
      patch = mock.patch.object(module, name, stand_in)
      patch.start()
      self.addCleanup(patch.stop)

  def _main(self, **values):
    with flagsaver.flagsaver(**values):
      return compile_lib.main()

  def test_a_batch_per_chip_grows_with_chips_not_with_cores(self):
    self.assertEqual(self._main(system='v3-8,v3-32', per_chip_batch=32), 0)
    sizes = [job['hp']['global_batch_size'] for job in self.jobs]
    self.assertEqual(sizes, ['128', '512'])

  def test_the_eval_batch_is_rounded_up_to_what_the_devices_divide(self):
    self._main(system='v5e-256', size='tiny')
    self.assertEqual(self.jobs[0]['hp']['eval_batch_size'], '256')
    self._main(system='h100-24', size='tiny')
    self.assertEqual(self.jobs[1]['hp']['eval_batch_size'], '264')
    self._main(system='h100-24', hp=['eval_batch_size=100'])
    self.assertEqual(self.jobs[2]['hp']['eval_batch_size'], '100')

  def test_two_words_on_the_batch_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'give one'):
      self._main(
        system='v5e-8', per_chip_batch=16, hp=['global_batch_size=128']
      )

  def test_the_exit_code_says_whether_all_fit(self):
    self.assertEqual(self._main(system='v5e-8'), 0)
    self.answer = lambda *args: _report(*args, peak=2)
    self.assertEqual(self._main(system='v5e-8'), 1)

  def test_a_refusal_ends_one_system_and_is_a_row_of_a_sweep(self):
    self.answer = lambda system, job: (
      {'name': system.name, 'refused': 'Too many chips.'}
      if system.chips > 8
      else _report(system, job)
    )
    self.assertEqual(self._main(system='v5e-16'), 2)
    self.assertEqual(self._main(system='v5e-8,v5e-16'), 1)

  def test_options_reach_the_compiler(self):
    given = ['xla_some_option=3', 'xla_word=on', 'some_effort=-1.0']
    self._main(system='v5e-8', compiler_option=given)
    self.assertEqual(
      self.jobs[0]['options'],
      {'xla_some_option': 3, 'xla_word': 'on', 'some_effort': -1.0},
    )
    self.assertIsInstance(self.jobs[0]['options']['some_effort'], float)

  def test_the_report_is_written_with_its_command(self):
    path = os.path.join(self.create_tempdir().full_path, 'a.json')
    self._main(system='v5e-8,v5e-16', json=path)
    with open(path, encoding='utf-8') as file:
      written = json.load(file)
    self.assertStartsWith(written['command'], 'python -m launch.compile')
    names = [each['system']['name'] for each in written['reports']]
    self.assertEqual(names, ['v5e-8', 'v5e-16'])

  def test_the_tables_go_to_a_section(self):
    markers = '<!-- x: begin -->\nold\n<!-- x: end -->\n'
    path = self.create_tempfile(content=f'kept\n{markers}').full_path
    self._main(system='v5e-8,v5e-16', document=path, section='x')
    with open(path, encoding='utf-8') as file:
      text = file.read()
    self.assertStartsWith(text, 'kept\n')
    self.assertNotIn('old', text)
    self.assertIn('| v5e-16 |', text)

  def test_a_document_without_a_section_is_refused_before_anything(self):
    path = self.create_tempfile(content='nothing').full_path
    for values in ({'document': path}, {'document': path, 'section': 'x'}):
      with self.assertRaises(ValueError):
        self._main(system='v5e-8', **values)
    self.assertEmpty(self.jobs)


class WorkerTest(parameterized.TestCase):
  def _answer(self, script):
    """Report of `compile_for` with a worker that runs `script`."""
    started = subprocess.Popen

    def popen(command, **how):
      return started([command[0], '-c', script], **how)

    with mock.patch.object(subprocess, 'Popen', popen):
      return compile_lib.compile_for(systems.get('v5e-8'), {'a': 1})

  def test_the_job_goes_in_and_the_report_comes_out(self):
    found = self._answer(
      'import json, os, sys\njob = json.load(sys.stdin)\n'
      'print("a word of a library")\n'
      'print(json.dumps({"stage": "lowering"}))\n'
      'print(json.dumps({"report": [job, os.environ["TPU_SKIP_MDS_QUERY"]]}))'
    )
    self.assertEqual(found, [{'a': 1}, '1'])

  def test_a_refusal_has_the_name_of_the_system(self):
    found = self._answer('print(\'{"refused": "No."}\')')
    self.assertEqual(found, {'name': 'v5e-8', 'refused': 'No.'})

  def test_a_worker_that_dies_is_quoted(self):
    found = self._answer(
      'import sys\nprint("last words", file=sys.stderr)\nsys.exit(3)'
    )
    self.assertEqual(
      found['refused'], 'The compiler ended with code 3: last words'
    )


class EntrypointTest(parameterized.TestCase):
  def test_what_cannot_be_tried_is_one_line(self):
    done = subprocess.run(
      [sys.executable, '-m', 'launch.compile', '--system=v5e-9'],
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      timeout=400,
      check=False,
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn('v5e-8, v5e-16', done.stderr)
    self.assertLen(done.stderr.strip().splitlines(), 1)


class DocumentTest(parameterized.TestCase):
  def test_a_section_is_put_between_its_markers(self):
    document = 'a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n'
    filled = compile_lib.fill(document, 'x', 'new')
    self.assertEqual(
      filled, 'a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n'
    )
    self.assertEqual(compile_lib.fill(filled, 'x', 'new'), filled)

  @parameterized.parameters(
    '', '<!-- x: begin -->', '<!-- x: begin --><!-- x: end -->' * 2
  )
  def test_a_document_without_the_markers_is_refused(self, document):
    with self.assertRaisesRegex(ValueError, 'begin'):
      compile_lib.fill(document, 'x', 'new')


if __name__ == '__main__':
  absltest.main()
