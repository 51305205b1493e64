"""Compilation of what runs once or twice: most time would go into its code."""

import functools

import jax

# Without its own emitters of fusions XLA compiles in half of the time.
LOOPS = {'xla_cpu_use_fusion_emitters': False}  # for what runs many times
OPTIONS = {**LOOPS, 'xla_backend_optimization_level': 0}
jit = functools.partial(jax.jit, compiler_options=OPTIONS)
