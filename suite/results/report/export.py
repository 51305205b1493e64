"""The figures and numbers of a report as files: SVG, CSV and JSON.

There are no PNGs: nothing that the suite depends on renders SVG, and browsers,
office programs and LaTeX all take the SVG as it is.
"""

from collections.abc import Mapping, Sequence
import csv
import io
import json
import math
import os
import pathlib
import re
import shutil
from typing import Any

from suite import files

_FOLDER = pathlib.Path(__file__).parent
_FORMULA = ('=', '+', '-', '@', '\t', '\n')
_NAMESPACE = 'http://www.w3.org/2000/svg'


def write(
  directory: str | os.PathLike,
  figures: Mapping[str, str],
  tables: Mapping[str, Sequence[Mapping]],
) -> None:
  """Writes `directory` with all of them, whole or not at all.

  A folder of an earlier report is replaced; anything else in its place is
  refused with ValueError.
  """
  directory = os.fspath(directory)
  if os.path.lexists(directory):
    _require_ours(directory)
  partial = files.partial_path(directory)
  os.makedirs(partial)
  for name, drawing in figures.items():
    files.write_text(os.path.join(partial, f'{name}.svg'), figure(drawing))
  for name, rows in tables.items():
    files.write_text(os.path.join(partial, f'{name}.csv'), table(rows))
  files.write_json(os.path.join(partial, 'numbers.json'), _plain(tables))
  if os.path.lexists(directory):
    shutil.rmtree(directory)
  os.replace(partial, directory)


def figure(drawing: str) -> str:
  """A figure of a page as a file of its own, in the colours of paper."""
  # As plain text: Markup would escape what is put into it.
  head, _, rest = str(drawing).partition('>')
  head = head.replace('<svg', f'<svg xmlns="{_NAMESPACE}" class="drawing"', 1)
  return f'{head}><style>{_style()}</style>{rest}\n'


def table(rows: Sequence[Mapping]) -> str:
  """Rows as CSV; what is not known is an empty cell."""
  columns = list(dict.fromkeys(name for row in rows for name in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator='\n', restval='')
  writer.writerow({name: _cell(name) for name in columns})
  writer.writerows(
    {name: _cell(value) for name, value in row.items()} for row in rows
  )
  return text.getvalue()


def _style() -> str:
  """The style of figures, with colours written out: not all programs that
  show SVG know variables."""
  theme = (_FOLDER / 'theme.css').read_text(encoding='utf-8')
  light = dict(re.findall(r'--([\w-]+): (#\w+);', theme.partition('@media')[0]))
  style = (_FOLDER / 'figures.css').read_text(encoding='utf-8')
  style = re.sub(r'[^{}]*color-mix\([^;]*;', '', style)
  style = re.sub(r'var\(--([\w-]+)\)', lambda match: light[match[1]], style)
  page = f'svg {{ background: {light["page"]}; }}'
  return f'{page} text {{ font-family: sans-serif; }} {style}'


def _cell(value: Any) -> Any:
  if isinstance(value, list | dict):
    return json.dumps(value)
  if not isinstance(value, str):
    return value
  value = value.replace('\r', '\n')  # which csv does not quote
  # A spreadsheet would run such a text as a formula, after line breaks too.
  return f"'{value}" if value.startswith(_FORMULA) else value


def _plain(value: Any) -> Any:
  """The value with null for numbers that JSON lacks."""
  if isinstance(value, Mapping):
    return {str(name): _plain(each) for name, each in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(each) for each in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _require_ours(directory: str) -> None:
  ours = os.path.isdir(directory) and not os.path.islink(directory)
  if not ours or not os.path.exists(os.path.join(directory, 'numbers.json')):
    raise ValueError(
      f'Expected {directory} to be free or of an earlier report, got other '
      'files.'
    )
