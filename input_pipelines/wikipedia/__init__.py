"""Masked sentences of Wikipedia, and a small stand-in of the same schema."""

NAME = 'wikipedia_20200101'
# Evals of round v1.0 and later. The samples to train on are not published.
EVAL = 10_000
