"""Tests of the TPU profiles against libtpu's compiler, which needs no TPU."""

import importlib.util
import os
import subprocess
import sys
import unittest

from absl.testing import absltest

from tests.launch import processes

_PROGRAM = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
from launch import profiles

names = [name for name in profiles.names() if name.startswith('tpu')]
for name in names:
  profiles.apply(profiles.load(name))  # libtpu ends at a flag it does not know
topology = topologies.get_topology_desc('v5e:2x2', platform='tpu')
split = NamedSharding(Mesh(np.array(topology.devices), 'd'), PartitionSpec('d'))
shape = jax.ShapeDtypeStruct((128, 128), jnp.float32, sharding=split)
lowered = jax.jit(lambda x: (x @ x).sum()).lower(shape)
for name in names:
  lowered.compile(compiler_options=dict(profiles.load(name).compiler_options))
  print(name)
try:
  lowered.compile(compiler_options={'xla_tpu_no_option': 1})
except jax.errors.JaxRuntimeError:
  print('refused')
"""


@unittest.skipUnless(importlib.util.find_spec('libtpu'), 'needs libtpu')
class TpuTest(absltest.TestCase):
  def test_libtpu_knows_every_option(self):
    environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'TPU_SKIP_MDS_QUERY': '1',
      'TPU_WORKER_HOSTNAMES': 'localhost',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
      'TPU_LOG_DIR': 'disabled',
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    }
    done = subprocess.run(
      [sys.executable, '-c', _PROGRAM],
      cwd=processes.ROOT,
      env=environment,
      capture_output=True,
      text=True,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    told = done.stdout.split()
    self.assertEqual(told[-1], 'refused')
    self.assertIn('tpu_slices', told)
    self.assertIn('tpu_v6e', told)


if __name__ == '__main__':
  absltest.main()
