"""Tests of tables and reports."""

import types

from absl.testing import absltest, parameterized

from launch.aot import analysis, systems, tables

_GIB = 2**30


def _program(**changes):
  return {
    'compiles': True,
    'why_not': '',
    'memory': {'arguments': _GIB, 'outputs': _GIB, 'aliased': _GIB,
               'temporaries': 3 * _GIB, 'code': 0, 'peak': 4 * _GIB,
               'capacity': 16 * _GIB, 'fits': True},
    'operations': {'bf16': 2e12},
    'model_operations': {'f32': 8e12},
    'model_operations_certain': True,
    'traffic': 819e6,
    'collectives': [
      {'kind': 'all-reduce', 'axis': 'data', 'crosses': 'chips', 'group': 8,
       'certain': True, 'times': 2, 'bytes': 2**20, 'seconds': 5e-4},
    ],
    'roofline': {'compute': 4e-3, 'memory': 1e-3, 'network': 5e-4},
    'seconds': 61.0,
    'cached': False,
  } | changes  # fmt: skip


def _report(name, batch=1024, **changes):
  system = systems.get(name)
  return {
    'system': {'name': name, 'chips': system.chips, 'shape': system.shape(),
               'devices': system.devices},
    'mesh': {'data': system.devices, 'model': 1},
    'versions': {'jax': '1.2.3'},
    'batch': batch,
    'eval_batch': 64,
    'programs': {'train_step': _program(**changes)},
  }  # fmt: skip


def _cells(table):
  return [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in table.splitlines()
  ]


class AnalysisTest(parameterized.TestCase):
  def test_what_is_given_back_in_place_counts_once(self):
    parts = {'arguments': 10, 'outputs': 9, 'aliased': 8, 'temporaries': 5,
             'code': 1}  # fmt: skip
    found = analysis.memory(parts, systems.get('v5e-8'))
    self.assertEqual(found['peak'], 10 + (9 - 8) + 5 + 1)
    self.assertTrue(found['fits'])

  def test_what_is_more_than_there_is_does_not_fit(self):
    parts = dict.fromkeys(('arguments', 'outputs', 'aliased', 'code'), 0)
    system = systems.get('v3-8')  # a device is half of a chip
    for extra, fits in ((0, True), (1, False)):
      found = analysis.memory(parts | {'temporaries': 2**34 + extra}, system)
      self.assertEqual(found['fits'], fits)

  def test_running_out_of_memory_is_told_in_numbers(self):
    text = (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory '
      'in memory space hbm. Used 32.10G of 15.75G hbm. Exceeded hbm capacity '
      'by 16.35G.\nTotal hbm usage >= 32.35G:'
    )
    found = analysis.describe(
      {'error': text}, systems.get('v5e-8'), [], {'data': 8}
    )
    self.assertEqual(found['why_not'], 'needs 32.10 of 15.75 GiB')
    self.assertFalse(found['memory']['fits'])

  def test_another_error_is_told_by_its_first_line(self):
    found = analysis.describe(
      {'error': 'INTERNAL: no\nmore'}, systems.get('v5e-8'), [], {'data': 8}
    )
    self.assertEqual(found, {'compiles': False, 'why_not': 'INTERNAL: no'})

  def test_facts_are_what_the_compiler_says(self):
    stats = types.SimpleNamespace(
      argument_size_in_bytes=1, output_size_in_bytes=2, alias_size_in_bytes=3,
      temp_size_in_bytes=4, generated_code_size_in_bytes=5,
    )  # fmt: skip
    compiled = types.SimpleNamespace(
      memory_analysis=lambda: stats,
      cost_analysis=lambda: None,  # as on GPUs
      as_text=lambda: 'HloModule m',
    )
    found = analysis.facts(compiled)
    self.assertEqual(sum(found['memory'].values()), 15)
    self.assertIsNone(found['costs']['flops'])


class TablesTest(parameterized.TestCase):
  def test_a_step_by_hand(self):
    step = tables.step_of(_report('v5e-8'))
    self.assertAlmostEqual(step.rates[0], 1024 / 4e-3)
    self.assertAlmostEqual(step.rates[1], 1024 / 5.5e-3)
    # 8 TFLOP in 4 ms on 8 chips of 197 TFLOP/s.
    self.assertAlmostEqual(step.mfu[0], 8 / (4e-3 * 8 * 197))

  def test_waste_is_what_is_done_beyond_what_was_asked(self):
    shown = tables.one(_report('v5e-8'))
    self.assertIn('+100.0 %', shown)  # 8 x 2 TFLOP for 8
    self.assertIn('4.00 of 16.00 GiB', shown)
    self.assertIn('Bound by compute', shown)

  def test_efficiency_is_against_the_first_of_a_kind(self):
    half = {'compute': 8e-3, 'memory': 1e-3, 'network': 5e-4}
    reports = [
      _report('v5e-8'),
      _report('v5e-16', batch=2048, roofline=half),
      _report('h100-8'),
    ]
    header, _, *rows = _cells(tables.sweep(reports))
    column = header.index('efficiency')
    self.assertTrue(rows[0][column].startswith('100.0 %'))
    self.assertTrue(rows[1][column].startswith('50.0 %'))
    self.assertTrue(rows[2][column].startswith('100.0 %'))
    self.assertEqual(tables.breaking_point(reports), '')

  @parameterized.named_parameters(
    ('network', {'roofline': {'compute': 1e-3, 'memory': 0.0,
                              'network': 2e-3}}, 'network bounds'),
    ('speed', {'roofline': {'compute': 9e-3, 'memory': 0.0,
                            'network': 0.0}}, '50% efficient'),
    ('memory', {'memory': {'peak': 2 * _GIB, 'capacity': _GIB, 'fits': False}},
     'does not fit: needs 2.00 of 1.00 GiB'),
    ('compiler', {'compiles': False, 'why_not': 'INTERNAL', 'memory': None},
     'does not compile: INTERNAL'),
  )  # fmt: skip
  def test_scaling_breaks_for_want_of(self, changes, text):
    reports = [_report('v5e-8'), _report('v5e-16', **changes)]
    said = tables.breaking_point(reports)
    self.assertStartsWith(said, 'Scaling breaks at v5e-16: ')
    self.assertIn(text, said)
    self.assertIn(text, tables.sweep(reports))

  def test_what_was_refused_is_a_row(self):
    reports = [_report('v5e-8'), {'name': 'v5e-16', 'refused': 'Too small.'}]
    self.assertIn('Too small', tables.sweep(reports))
    self.assertIn('v5e-16: Too small.', tables.breaking_point(reports))
    self.assertFalse(tables.fits(reports[1]))

  def test_a_sweep_that_scales_says_so(self):
    reports = [_report('v5e-8'), _report('v5e-16', batch=2048)]
    self.assertIn('nowhere', tables.breaking_point(reports))

  def test_columns_stand_under_each_other(self):
    lines = tables.table(('a', 'long'), [('wider', 'b')]).splitlines()
    self.assertEqual(lines, ['| a     | long |', '| ----- | ---- |',
                             '| wider | b    |'])  # fmt: skip

  @parameterized.parameters(
    (3 * 2**20, '3 MiB'), (1536, '1.5 KiB'), (12, '12 B'), (5 * 2**30, '5 GiB')
  )
  def test_bytes_for_people(self, number, text):
    self.assertEqual(tables.bytes_text(number), text)

  @parameterized.parameters(
    (1.5, '1.5 s'), (0.0351, '35.1 ms'), (2e-6, '2 us'), (1e-12, '0')
  )
  def test_times_for_people(self, seconds, text):
    self.assertEqual(tables.time_text(seconds), text)


if __name__ == '__main__':
  absltest.main()
