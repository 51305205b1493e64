"""Limits that differ from round to round of MLPerf Training."""

from suite.hparams import Division

# The first round of each limit on startup, in seconds: Closed, Open. Before
# v0.7 the clock starts before any work of the benchmark; in v1.0 and v1.1 the
# text of the rules says 20 minutes, an appendix and the official checker 30.
_STARTUP = {
  'v0.5': (0.0, 0.0),
  'v0.7': (20 * 60.0, 20 * 60.0),
  'v1.0': (30 * 60.0, 30 * 60.0),
  'v2.0': (30 * 60.0, 4 * 3600.0),
}


def of_ruleset(ruleset: str | None) -> str:
  """The round of an official ruleset, 'v4.0' of '4.0.0'; '' of any other."""
  parts = (ruleset or '').split('.')
  official = len(parts) == 3 and all(part.isdigit() for part in parts)
  return f'v{parts[0]}.{parts[1]}' if official else ''


def startup_allowance(name: str, division: Division) -> float:
  """Seconds of startup that do not count in a round; '' is the newest."""
  closed, open_ = 0.0, 0.0
  for first, limits in _STARTUP.items():
    if not name or _order(name) >= _order(first):
      closed, open_ = limits
  return closed if division is Division.CLOSED else open_


def _order(name: str) -> tuple[int, ...]:
  return tuple(map(int, name.removeprefix('v').split('.')))
