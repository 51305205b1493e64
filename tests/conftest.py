"""Every test sees 8 CPU devices, 2 threads, and no silent rank promotion."""

import os
import signal

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUM_CPU_DEVICES'] = '8'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
# XLA's threads: a sum is split over them, so its last bits depend on how many
# there are, and one process with two devices has never less than two.
os.environ['NPROC'] = '2'

from absl import flags

# absltest's temporary directories read flags; pytest does not parse any.
flags.FLAGS.mark_as_parsed()

# Started in the background, a shell's children ignore Ctrl-C, and so would the
# processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)
