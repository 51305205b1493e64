"""Every test sees 8 CPU devices, and no silent rank promotion."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUM_CPU_DEVICES'] = '8'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'

from absl import flags

# absltest's temporary directories read flags; pytest does not parse any.
flags.FLAGS.mark_as_parsed()
