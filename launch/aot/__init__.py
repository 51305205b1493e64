"""Programs compiled ahead of time, for accelerators that are not here."""
