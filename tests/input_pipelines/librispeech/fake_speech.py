"""Archives as OpenSLR's, of short noise that says random words."""

from collections.abc import Mapping
import io
import os
import tarfile

import numpy as np

from input_pipelines import librispeech
from input_pipelines.librispeech import prepare, tiny
from input_pipelines.writing import recipe

NAME = librispeech.NAME
PIECES = 12
_LETTERS = 'ABCDE'
# Utterances of each set, and their samples.
COUNTS = {
  'dev-clean': 27,
  'train-clean-100': 33,
  'train-clean-360': 9,
  'train-other-500': 31,
}
SAMPLES = (1600, 7000)


def utterance(name: str, number: int) -> tuple[np.ndarray, str]:
  """Its sound float32 [N], and its text in capitals."""
  rng = np.random.default_rng((len(name), ord(name[-1]), number))
  sound = 0.1 * rng.standard_normal(rng.integers(*SAMPLES))
  words = [
    ''.join(rng.choice(list(_LETTERS), rng.integers(1, 4)))
    for _ in range(rng.integers(1, 3))
  ]
  return sound.astype(np.float32), ' '.join(words)


def write_archives(folder: str, counts: Mapping[str, int] = COUNTS) -> None:
  """Writes an archive a set: texts in front of or behind their speech."""
  for name, count in counts.items():
    with tarfile.open(os.path.join(folder, f'{name}.tar.gz'), 'w:gz') as tape:
      add(tape, 'LibriSpeech/README.TXT', b'Read me.')
      for chapter in range(0, count, 10):
        place = f'LibriSpeech/{name}/7/{chapter}/7-{chapter}'
        numbers = range(chapter, min(chapter + 10, count))
        lines = [
          f'7-{chapter}-{number:04d} {utterance(name, number)[1]}\n'
          for number in numbers
        ]
        text = (tape, f'{place}.trans.txt', ''.join(lines).encode())
        if chapter % 20:
          add(*text)
        for number in numbers:
          sound = tiny.flac(utterance(name, number)[0])
          add(tape, f'{place}-{number:04d}.flac', sound)
        if not chapter % 20:
          add(*text)


def write(data_dir: str, folder: str) -> str:
  """Writes the data set from such archives; returns its directory."""
  write_archives(folder)
  return prepare.build(recipe.Order(data_dir, folder), md5={}, size=PIECES)


def add(tape: tarfile.TarFile, name: str, data: bytes) -> None:
  """Adds a file to an archive."""
  member = tarfile.TarInfo(name)
  member.size = len(data)
  tape.addfile(member, io.BytesIO(data))
