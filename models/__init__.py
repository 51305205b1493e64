"""Reference models: one a file, in jax and flax, knowing nothing of data."""
