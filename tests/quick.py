"""Compilation of what runs once or twice: most time would go into its code."""

import functools

import jax

OPTIONS = {'xla_backend_optimization_level': 0}
jit = functools.partial(jax.jit, compiler_options=OPTIONS)
