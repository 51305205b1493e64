"""The core of the suite: tasks, programs, the loop, logs, checks, scores."""
