"""Keys and values of the log that its writer and its readers share."""

# Prefix of statistics of the data that a run makes itself.
MADE = 'podium_made_'
# A run continued in another process; INTERRUPTED is its earlier end, withdrawn.
RESUMED, INTERRUPTED = 'podium_resumed', 'podium_interrupted'
SUCCESS, ABORTED = 'success', 'aborted'  # status of run_stop
# Metadata that place an event in training.
UNITS = ('epoch_num', 'samples_count', 'step_num')
# submission_status -> status of a system description, from ruleset 4.0 on.
STATUSES = {
  'onprem': 'Available on-premise',
  'cloud': 'Available cloud',
  'preview': 'Preview',
  'research': 'Research, Development, or Internal (RDI)',
}

# Says of a run that its benchmark is a draft; others do not hold it.
DRAFT = 'podium_draft'


def is_safe(text: str) -> bool:
  """Returns whether a text may be a name in a log: printable, and no path.

  What was not UTF-8 on a command line is not printable either.
  """
  return text.isprintable() and not is_path(text)


def is_path(text: str) -> bool:
  """Returns whether a text leads out of the folder that it is joined to."""
  parts = text.replace('\\', '/').split('/')
  return text.startswith(('/', '\\', '~')) or any(
    part in ('.', '..') for part in parts
  )
