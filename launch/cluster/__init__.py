"""Processes of one run: their places, their supervisors, what they agree on."""
