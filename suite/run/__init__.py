"""One run: task, feed, programs, the train loop, checkpoints, the log."""
