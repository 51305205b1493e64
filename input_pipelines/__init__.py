"""Data sets on disk -> batches of numpy arrays; nothing here imports jax.

One data set a file. Which records make up a batch is decided in `batching`, how
a prepared TFDS directory is found, checked and opened in `dataset`, and what
becomes of a photograph in `images` and `crops`. `tiny` builds the small data
sets, which are then read by the same code as the full ones.
"""
