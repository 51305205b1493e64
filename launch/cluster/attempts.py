"""Files of attempts at a run that were given up."""

import glob
import os
import shutil
import sys

from suite import files

SET_ASIDE = 'interrupted'  # the folder they are moved to


def set_aside(output: str, run: int, more: tuple[str, ...] = ()) -> None:
  """Moves what an unfinished attempt left, so that no file is used twice.

  Removes its checkpoints and its feed's data: nobody would know which run they
  are of. `more` are paths of files beside the log and the record.
  """
  saved = files.checkpoints_path(output, run)
  for directory in (saved, files.beside_checkpoints(saved)):
    shutil.rmtree(directory, ignore_errors=True)
  paths = (files.log_path(output, run), files.record_path(output, run), *more)
  left = [path for path in paths if os.path.exists(path)]
  if not left:
    return
  before = glob.glob(os.path.join(output, SET_ASIDE, f'run_{run}_*'))
  place = os.path.join(output, SET_ASIDE, f'run_{run}_{len(before)}')
  os.makedirs(place)
  for path in left:
    os.rename(path, os.path.join(place, os.path.basename(path)))
  print(
    f'run {run}: an unfinished attempt was moved to {place}', file=sys.stderr
  )
