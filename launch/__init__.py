"""Command line entry points; the only place that reads flags."""

import signal
import sys

if (
  sys.argv[:1] == ['-m']  # Python looks for the entrypoint that it is to run
  and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
  # Until that handles it, Ctrl-C ends the process. As an exception it could be
  # swallowed while libraries are imported, or print where they were.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
