"""Pieces that several commands share: flags, progress, facts of the system."""
