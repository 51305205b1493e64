"""Criteo's click logs of 24 days, and small stand-ins of the same schema."""

COUNTS = 13  # integers of a click, after its label
CATEGORIES = 26  # hexadecimal values, after those
DAYS = 24  # all but the last are for training
