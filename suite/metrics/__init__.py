"""Qualities, computed on the host: arrays or texts in, numbers out."""
