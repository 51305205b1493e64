"""Spoken strings of digits with LibriSpeech's schema: a small LibriSpeech.

eSpeak NG says two to four digits, in five accents and eight voices, faster or
slower, higher or lower, and noise is added. Evals are said by three voices that
training has not heard. eSpeak NG is under the GPL: it makes the sounds when the
data set is prepared, and no other part of this package knows it.
"""

from collections.abc import Callable, Iterator
import ctypes
import dataclasses
import io
import os

import numpy as np
from scipy import signal
import soundfile

from input_pipelines.librispeech import RATE, prepare, read
from input_pipelines.writing import recipe, work

NAME = 'spoken_digits'
VERSION = prepare.VERSION
UTTERANCES = {read.TRAIN: 2048, read.EVAL: 256}
# Letters and a few fragments, so that what comes next depends on what came
# before; 31 pieces would be whole words.
PIECES = 20

_SEED = 0
_WORDS = (
  'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight',
  'nine',
)  # fmt: skip
_ACCENTS = ('en-us', 'en', 'en-gb-scotland', 'en-gb-x-rp', 'en-029')
_VOICES = {
  read.TRAIN: ('m1', 'm2', 'm3', 'm4', 'm5', 'f1', 'f2', 'f3'),
  read.EVAL: ('m6', 'm7', 'f4'),
}
_WORDS_A_MINUTE, _PITCH, _RANGE = (160, 240), (25, 75), (20, 70)
_LOUDNESS = 0.05  # root mean square of the speech
_NOISE = (5.0, 25.0)  # dB that it is below the speech
_SILENT = 1e-3  # of the loudest sample possible
_NEEDED = "pip install 'podium-bench[speech]'"


def build(
  data_dir: str | os.PathLike, *, utterances: dict[str, int] | None = None
) -> str:
  """Writes the data set into a directory of data sets; returns its own one."""
  counts = utterances or UTTERANCES
  with recipe.generated(
    data_dir, NAME, VERSION, packages=('espeakng-loader', 'sentencepiece')
  ) as (unfinished, order):
    say = speaker()
    sources = {
      split: [_source(split, make(split, count, say))]
      for split, count in counts.items()
    }
    return prepare.write(
      unfinished,
      sources,
      name=NAME,
      description='Strings of digits, spoken by eSpeak NG.',
      size=PIECES,
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  read.verify(directory, splits=UTTERANCES, vocabulary_size=PIECES)


@dataclasses.dataclass(frozen=True)
class Voice:
  """A way to say something."""

  name: str
  speed: int  # words a minute
  pitch: int  # from 0 to 100
  range: int  # of the pitch


Say = Callable[[str, Voice], np.ndarray]  # -> float32 [N] at `RATE`


def make(split: str, count: int, say: Say) -> Iterator[tuple[str, np.ndarray]]:
  """Texts and sounds float32 [N] of a split, each by its number alone."""
  for number in range(count):
    rng = np.random.default_rng((_SEED, len(split), number))
    words = rng.integers(0, len(_WORDS), rng.integers(2, 5))
    text = ' '.join(_WORDS[word] for word in words)
    voice = Voice(
      f'{rng.choice(_ACCENTS)}+{rng.choice(_VOICES[split])}',
      *(int(rng.integers(*each)) for each in (_WORDS_A_MINUTE, _PITCH, _RANGE)),
    )
    sound = say(text, voice)
    loud = np.flatnonzero(np.abs(sound) > _SILENT)
    sound = sound[loud[0] : loud[-1] + 1]
    sound = sound * (_LOUDNESS / np.sqrt(np.mean(np.square(sound))))
    noise = _LOUDNESS * 10 ** (-rng.uniform(*_NOISE) / 20)
    sound = sound + noise * rng.standard_normal(len(sound))
    yield text, np.clip(sound, -1, 1).astype(np.float32)


def speaker() -> Say:
  """Starts eSpeak NG; ValueError where it is not installed.

  It says one thing at a time.
  """
  try:
    import espeakng_loader
  except ImportError as error:
    raise ValueError(
      f'Expected eSpeak NG to make {NAME}, got no espeakng-loader: {_NEEDED}'
    ) from error
  # As its speak_lib.h numbers them.
  synchronous, rate_set, pitch_set, range_set = 2, 1, 3, 4
  library = ctypes.CDLL(espeakng_loader.get_library_path())
  place = espeakng_loader.get_data_path().encode()
  said: list[np.ndarray] = []
  rate = library.espeak_Initialize(synchronous, 0, place, 0)
  if rate <= 0:
    raise ValueError(f'Expected a rate of eSpeak NG, got the error {rate}.')

  @ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
  )
  def hear(samples, count, events):
    del events
    if samples and count > 0:
      said.append(np.ctypeslib.as_array(samples, (count,)).copy())
    return 0

  library.espeak_SetSynthCallback(hear)

  def say(text: str, voice: Voice) -> np.ndarray:
    said.clear()
    if library.espeak_SetVoiceByName(voice.name.encode()):
      raise ValueError(f'Expected a voice of eSpeak NG, got {voice.name!r}.')
    for number, value in (
      (rate_set, voice.speed),
      (pitch_set, voice.pitch),
      (range_set, voice.range),
    ):
      library.espeak_SetParameter(number, value, 0)
    written = text.encode() + b'\0'
    library.espeak_Synth(written, len(written), 0, 0, 0, 0, None, None)
    sound = np.concatenate(said).astype(np.float32) / 2**15
    return signal.resample_poly(sound, RATE, rate).astype(np.float32)

  # The library keeps no reference to what it calls.
  say.hear = hear
  return say


def _source(
  split: str, made: Iterator[tuple[str, np.ndarray]]
) -> prepare.Source:
  """Utterances in memory; eSpeak NG is no library for several threads."""
  texts, speech = {}, []
  for number, (text, sound) in enumerate(made):
    name = f'{len(split)}-0-{number:04d}'
    texts[name] = text.upper()
    speech.append(prepare.Spoken(name, flac(sound)))

  def told(tick: work.Tick) -> dict[str, str]:
    tick(1)
    return texts

  return prepare.Source(split, 1, told, lambda: iter(speech))


def flac(sound: np.ndarray) -> bytes:
  """float32 [N] from -1 to 1 as FLAC of 16 bits."""
  written = io.BytesIO()
  soundfile.write(written, sound, RATE, format='FLAC', subtype='PCM_16')
  return written.getvalue()


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='2,304 strings of digits, spoken by eSpeak NG',
    licence='none needed; it is generated, by a program under the GPL',
    bytes=60_000_000,
    splits=UTTERANCES,
    verify=verify,
    check=prepare.check,
    build=lambda order: build(order.data_dir),
    needs='eSpeak NG: ' + _NEEDED,
  ),
)
