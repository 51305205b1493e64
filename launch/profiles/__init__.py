"""Flag profiles: settings of a platform's compiler and runtime, with reasons.

A profile is a file of this folder. It names compiler options, which XLA itself
checks when it compiles, and environment variables, for what is no option of a
compilation; each with its reason. `left_out` says what was considered and is
not set. `also` are further names of a profile, `on_top_of` is one whose entries
it takes over. Some change the order in which numbers are added, and so the last
digits of a loss: all go into the log.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any

import yaml

from suite import names as names_lib

_FOLDER = pathlib.Path(__file__).parent
_GROUPS = ('compiler_options', 'environment')
_FIELDS = ('also', 'on_top_of', *_GROUPS, 'left_out')
# Variables that hold flags: what is set already comes after ours and wins.
_LISTS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')
# How XLA numbers the levels that people write as O1.
_LEVELS = {'O0': 9, 'O1': 19, 'O2': 29, 'O3': 39}
_LEVEL_OPTIONS = ('optimization_level', 'memory_fitting_level')

Value = str | int | bool


@dataclasses.dataclass(frozen=True)
class Profile:
  """Settings of the compiler and the runtime."""

  name: str = ''  # empty: nothing but JAX's defaults
  compiler_options: Mapping[str, Value] = dataclasses.field(
    default_factory=dict
  )
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


NONE = Profile()


def load(name: str) -> Profile:
  """The profile of that name, or of several names with commas between.

  ValueError for an unknown one, and for two that contradict each other.
  """
  found: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
  for each in filter(None, name.split(',')):
    for group, entries in _entries(each.strip()).items():
      for key, value in entries.items():
        if (before := found[group].setdefault(key, value)) != value:
          raise ValueError(
            f'Profile {each} sets {key} to {value}, one before it to {before}.'
          )
  return Profile(
    name,
    {k: parsed(k, value) for k, value in found['compiler_options'].items()},
    {k: str(value) for k, value in found['environment'].items()},
  )


def names() -> Sequence[str]:
  """Every name that `load` takes."""
  return sorted(_files())


def require_platform(name: str, platform: str) -> None:
  """ValueError unless all profiles of the name are of 'cpu', 'gpu' or 'tpu'."""
  for each in filter(None, name.split(',')):
    made_for = _files()[each.strip()].stem.partition('_')[0]
    if made_for != platform:
      raise ValueError(
        f'Profile {each.strip()} is for {made_for.upper()}s, not for '
        f'{platform.upper()}s.'
      )


def known_options() -> set[str]:
  """Names of the compiler options that any profile sets."""
  return {key for name in names() for key in load(name).compiler_options}


def with_options(profile: Profile, texts: Sequence[str]) -> Profile:
  """The profile with compiler options given as name=value in place of its."""
  given = names_lib.assignments('compiler_option', texts)
  for name in given:
    if name.startswith('-'):
      raise ValueError(f'--compiler_option takes {name.lstrip("-")}=, no dash.')
  given = {name: parsed(name, value) for name, value in given.items()}
  options = {**profile.compiler_options, **given}
  return dataclasses.replace(profile, compiler_options=options)


def apply(profile: Profile) -> list[str]:
  """Sets the profile's variables in this process; before JAX has a backend.

  What is set already stays: it is what somebody chose for this machine. Flags
  are joined. Returns a line for each variable that was left as it was.
  """
  kept = []
  for name, value in profile.environment.items():
    before = os.environ.get(name)
    if before is None:
      os.environ[name] = value
    elif name in _LISTS:
      missing = [flag for flag in value.split() if flag not in before.split()]
      os.environ[name] = ' '.join([*missing, before])
    elif before != value:
      kept.append(
        f'{name} stays {before}, as it was set; profile {profile.name} says '
        f'{value}.'
      )
  return kept


def parsed(name: str, value: Value) -> Value:
  """A compiler option's value, of the type that XLA wants."""
  if name in _LEVEL_OPTIONS:
    if value not in _LEVELS:
      raise ValueError(f'{name} is one of {", ".join(_LEVELS)}, not {value!r}.')
    return _LEVELS[value]
  if isinstance(value, str):
    if value.lower() in ('true', 'false'):
      return value.lower() == 'true'
    if value.lstrip('-').isdecimal():
      return int(value)
  return value


def _entries(name: str) -> dict[str, dict[str, Any]]:
  """Both groups of a profile, with those that it stands on."""
  names_lib.require('profile', name, names())
  read = _read(_files()[name])
  below = _entries(read['on_top_of']) if 'on_top_of' in read else {}
  return {
    group: {
      **below.get(group, {}),
      **{key: entry['value'] for key, entry in read.get(group, {}).items()},
    }
    for group in _GROUPS
  }


@functools.cache
def _files() -> dict[str, pathlib.Path]:
  """Every name of every profile, with its file."""
  found = {}
  for path in sorted(_FOLDER.glob('*.yaml')):
    for name in (path.stem, *_read(path).get('also', ())):
      if name in found:
        raise ValueError(f'Two profiles are called {name}.')
      found[name] = path
  return found


@functools.cache
def _read(path: pathlib.Path) -> dict[str, Any]:
  """A file, checked: every entry has a value and a reason."""
  read = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
  unknown = sorted(read.keys() - set(_FIELDS))
  if unknown:
    raise ValueError(f'{path} holds {unknown[0]}; known are {_FIELDS}.')
  for group in _GROUPS:
    for key, entry in read.get(group, {}).items():
      if set(entry) != {'value', 'why'} or not entry['why']:
        raise ValueError(f'{path}: {key} needs a value and a why.')
  # These JAX reads when it is imported: here it would be too late.
  late = [n for n in read.get('environment', {}) if n.startswith('JAX_')]
  if late:
    raise ValueError(f'{path}: {late[0]} is read before a profile is.')
  return read
