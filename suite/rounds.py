"""Limits that differ from round to round of MLPerf Training."""

import bisect
import datetime

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
# The day (UTC) on which the last published run of each round began, from the
# logs of mlcommons/training_results_<round>. Nine sets in ten began after the
# round before had ended; the rest were handed in again in a later one.
_ENDS = {
  'v0.7': '2020-07-24', 'v1.0': '2021-06-22', 'v1.1': '2021-11-10',
  'v2.0': '2022-06-16', 'v2.1': '2022-10-27', 'v3.0': '2023-06-07',
  'v3.1': '2023-10-12', 'v4.0': '2024-05-24', 'v4.1': '2024-10-22',
  'v5.0': '2025-05-15', 'v5.1': '2025-10-18',
}  # fmt: skip
_FIRST = '2020-04-01'  # no round has logs of this form from before


def of_ruleset(ruleset: str | None) -> str:
  """The round of an official ruleset, 'v4.0' of '4.0.0'; '' of any other."""
  parts = (ruleset or '').split('.')
  official = len(parts) == 3 and all(part.isdigit() for part in parts)
  return f'v{parts[0]}.{parts[1]}' if official else ''


def at(time_ms: float) -> str:
  """The first round that a run that began then can be of.

  '' is none: before the logs of v0.7, or after the last round of the table.
  """
  return on(_day(time_ms))


def on(day: str) -> str:
  """As `at`, of a day: '2021-09-01'."""
  number = bisect.bisect_left(list(_ENDS.values()), day)
  if day < _FIRST or number == len(_ENDS):
    return ''
  return list(_ENDS)[number]


def ended(name: str, time_ms: float) -> bool:
  """Returns whether a round had ended when a run began."""
  return name in _ENDS and _day(time_ms) > _ENDS[name]


def _day(time_ms: float) -> str:
  try:
    return datetime.datetime.fromtimestamp(
      time_ms / 1000, datetime.UTC
    ).strftime('%Y-%m-%d')
  except (OverflowError, OSError, ValueError):
    return ''


def startup_allowance(name: str, division: Division) -> float:
  """Seconds of startup that do not count in a round; '' is the newest."""
  closed, open_ = 0.0, 0.0
  for first, limits in _STARTUP.items():
    if not name or _order(name) >= _order(first):
      closed, open_ = limits
  return closed if division is Division.CLOSED else open_


def _order(name: str) -> tuple[int, ...]:
  return tuple(map(int, name.removeprefix('v').split('.')))
