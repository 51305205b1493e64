"""Tests of compiling for TPUs that are not here, with the real compiler.

They need libtpu, which the extra `dev` brings.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import unittest
from unittest import mock

from absl.testing import absltest, parameterized
import pytest

from launch.aot import cache, hlo, systems, targets, worker
from suite import benchmark as benchmark_lib

_SYSTEM = 'v5e-8'
_SECONDS = 1200  # on a busy machine


# Answers every job of its input, one a line, as `launch.aot.worker` does.
_PROGRAM = """
import io, json, sys
from launch.aot import worker
for job in sys.stdin:
  code = worker.main(io.StringIO(job), sys.stdout)
  print(json.dumps({'code': code}))
"""


def _ask(*jobs):
  """Events and exit code of each job, all in one process of their own."""
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    input='\n'.join(json.dumps({'system': _SYSTEM, **job}) for job in jobs),
    env=os.environ | targets.environment(systems.get(_SYSTEM)),
    capture_output=True,
    text=True,
    timeout=_SECONDS,
    check=False,
  )
  events = [json.loads(s) for s in done.stdout.splitlines() if s[:1] == '{']
  answers = [[]]
  for event in events:
    if 'code' in event:
      answers[-1] = (answers[-1], event['code'])
      answers.append([])
    else:
      answers[-1].append(event)
  if len(answers) != len(jobs) + 1:
    raise AssertionError(done.stderr[-2000:])
  return answers[:-1]


class TextTest(parameterized.TestCase):
  @parameterized.parameters(('v5e-8', 'tpu'), ('h100-8', 'gpu'))
  def test_a_compiler_that_is_not_installed_is_named(self, name, extra):
    missing = importlib.metadata.PackageNotFoundError()
    with (
      mock.patch.object(importlib.util, 'find_spec', return_value=None),
      mock.patch.object(importlib.metadata, 'version', side_effect=missing),
      self.assertRaisesRegex(targets.Unavailable, rf"'\.\[{extra}\]'"),
    ):
      targets.require(systems.get(name))

  def test_a_gpu_is_described_to_its_compiler(self):
    text = systems.get('h200-8').target
    self.assertIn('device_memory_size: 151397597184', text)
    self.assertIn('major: 9', text)
    self.assertEqual(text.count('{'), text.count('}'))


@unittest.skipUnless(importlib.util.find_spec('libtpu'), 'needs libtpu')
class TpuTest(parameterized.TestCase):
  def assert_fits(self, programs):
    self.assertContainsSubset(['train_step', 'predict'], programs)
    for program in programs.values():
      self.assertTrue(program['compiles'], program['why_not'])
      self.assertTrue(program['memory']['fits'])
      self.assertFalse(program['cached'])
    # What a step gives back in place is not counted twice.
    memory = programs['train_step']['memory']
    self.assertGreater(memory['aliased'], 0.9 * memory['outputs'])
    self.assertLess(
      memory['peak'] - memory['temporaries'] - memory['code'],
      1.1 * memory['arguments'] + 4096,
    )
    kinds = {c['kind'] for c in programs['train_step']['collectives']}
    self.assertIn('all-reduce', kinds)

  @parameterized.parameters(*benchmark_lib.names())
  @pytest.mark.slow
  def test_every_benchmark_compiles_in_its_tiny_size(self, name):
    ((events, code),) = _ask(
      {'benchmark': name, 'size': 'tiny', 'programs': ['train_step', 'predict']}
    )
    self.assertEqual(code, 0, events[-1])
    self.assert_fits(events[-1]['report']['programs'])

  def test_one_compiles_is_kept_and_what_cannot_be_is_refused_in_words(self):
    directory = self.create_tempdir().full_path
    job = {'benchmark': 'ncf', 'size': 'tiny', 'cache': directory}
    refusals = (
      ({'options': {'xla_tpu_scoped_vmem_limit_kb': 98304}},
       'xla_tpu_scoped_vmem_limit_kib'),
      ({'options': {'exec_time_optimization_effort': 'much'}},
       'refuses the options'),
      ({'programs': ['train']}, 'train_step'),
      ({'hp': {'global_batch_size': '1001'}}, 'do not divide'),
      ({'model_axis': 3}, 'divide'),
    )  # fmt: skip
    (first, code), (second, _), *refused = _ask(
      {**job, 'programs': ['train_step', 'predict']},
      {**job, 'programs': ['predict']},
      *({**job, **changes} for changes, _ in refusals),
    )
    self.assertEqual(code, 0, first[-1])
    programs = first[-1]['report']['programs']
    self.assert_fits(programs)
    self.assertLen(os.listdir(directory), len(programs))
    known = second[-1]['report']['programs']['predict']
    self.assertEqual(programs['predict'] | {'cached': True}, known)
    self.assertIn(
      {'program': 'predict', 'cached': True, 'seconds': known['seconds']},
      second,
    )
    for (events, code), (_, says) in zip(refused, refusals, strict=True):
      self.assertEqual(code, worker.REFUSED)
      self.assertIn(says, events[-1]['refused'])

  @pytest.mark.slow
  def test_resnet_50_is_what_is_known_of_it(self):
    changes = {'compute_dtype': 'bfloat16', 'global_batch_size': '512'}
    # With the least effort it compiles in a quarter of the time.
    effort = {'exec_time_optimization_effort': -1.0}
    job = {'benchmark': 'resnet', 'size': 'reference', 'hp': changes,
           'options': effort, 'programs': ['train_step']}  # fmt: skip
    ((events, code),) = _ask(job)
    self.assertEqual(code, 0, events[-1])
    step = events[-1]['report']['programs']['train_step']
    # XLA, which counts elementwise operations too, has 24.1 G an image.
    asked = sum(step['model_operations'].values())
    self.assertBetween(asked / 512 / 24.1e9, 0.96, 1.0)
    self.assertAlmostEqual(step['xla_flops'] * 8 / 512 / 24.1e9, 1, delta=0.02)
    done = 8 * sum(step['operations'].values())
    self.assertBetween(done / asked, 1.0, 1.05)
    # Where its groups do not cross chips, batch norm sends nothing on its own:
    # only the gradients are sent, of kernels in bfloat16, and the moments.
    (sent,) = step['collectives']
    self.assertEqual((sent['kind'], sent['axis']), ('all-reduce', 'data'))
    self.assertLessEqual(sent['times'], 4)
    kernels, others, moments = 25_502_912, 54_120, 53_120
    self.assertAlmostEqual(
      sent['bytes'] / (2 * kernels + 4 * (others + moments)), 1, delta=0.1
    )
    # Parameters and momentum, and 64 images a chip.
    state = 4 * (2 * (kernels + others) + moments) + 64 * 224 * 224 * 3
    self.assertBetween(step['memory']['arguments'] / state, 1.0, 1.1)
    # XLA counts the same traffic where there are no lookups.
    self.assertAlmostEqual(step['traffic'] / step['xla_traffic'], 1, delta=0.1)

  @pytest.mark.slow
  def test_self_play_copies_no_tree_inside_its_loops(self):
    """It would in each descent, if what is read lay otherwise than written."""
    directory = self.create_tempdir().full_path
    job = {'benchmark': 'minigo', 'size': 'tiny', 'cache': directory,
           'programs': ['staged play']}  # fmt: skip
    ((events, code),) = _ask(job)
    self.assertEqual(code, 0, events[-1])
    (path,) = pathlib.Path(directory).rglob('*.json')
    text = cache.Cache(directory).find(path.stem)['text']
    hp = benchmark_lib.get('minigo').size('tiny').hparams
    rows = hp.concurrent_games // 8 * hp.tree_capacity
    inside = [
      each.instruction
      for each in hlo.Module(text).executed()
      if not each.fused and (each.times > 1 or not each.certain)
    ]
    of_trees = [
      each
      for each in inside
      if any(
        math.prod(leaf.dims[:-1]) == rows and leaf.dims[-1] > 16
        for leaf in hlo.leaves(each.shape)
      )
    ]
    self.assertNotEmpty(of_trees)
    self.assertEmpty([each for each in of_trees if each.opcode == 'copy'])


if __name__ == '__main__':
  absltest.main()
