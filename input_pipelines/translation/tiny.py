"""English sentences and their German translations, generated: a small WMT.

What has to be learned is what makes German hard to translate into:

- order: the finite verb is second in a main clause ('heute sieht der Hund ...')
  and last in a subordinate one; participles and infinitives close the clause.
- agreement: articles and adjectives follow gender, number and case of their
  noun, and the case follows from the verb or the preposition.
- compounds: two nouns become one ('garden door', 'Gartentür'). Of those in the
  test some never come in training, though their parts do.
- ambiguity: a 'bank' is an 'Ufer' in the forest and a 'Bank' in the city; where
  the sentence takes place stands elsewhere in it, often after the word.

The sentences of the test do not come in training. There are two data sets of
these pairs: `phrases` with the subwords of WMT17, and `phrases_bpe` with those
of WMT16, which are found by other rules.
"""

from collections.abc import Sequence
import dataclasses
import os
import random
import re

from input_pipelines.text import bpe, subwords
from input_pipelines.translation import corpus, lexicon
from input_pipelines.translation import prepare as of_translation
from input_pipelines.translation import read as translation
from input_pipelines.writing import recipe

NAME = 'phrases'
NAME_BPE = 'phrases_bpe'
VERSION = of_translation.VERSION
PAIRS = {'train': 5_000, 'test': 600}

_SEED = 0
_SIZE = 600  # subwords, about
_MERGES = 1000
_MULTIPLE = 8  # of subwords, some of them made up
_SHARDS = 2
_UNSEEN = 9  # one of so many compounds comes in the test alone

# Cases: nominative, accusative, dative.
_SUBJECT, _OBJECT, _TO = range(3)


@dataclasses.dataclass(frozen=True)
class Pair:
  """A sentence, its translation, and the compounds in it."""

  english: str
  german: str
  compounds: tuple[str, ...] = ()


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.

  Returns:
    The data set's own directory, `<data_dir>/phrases/<version>`.
  """
  with recipe.generated(data_dir, NAME, VERSION) as (unfinished, order):
    corpora = _corpora()
    vocabulary = of_translation.find_vocabulary(
      unfinished, corpora['train'], order, size=_SIZE
    )
    return of_translation.write(
      unfinished,
      corpora,
      vocabulary,
      name=NAME,
      description='Generated English sentences and their German translations.',
      shards={'train': _SHARDS, 'test': 1},
      order=order,
    )


def build_bpe(data_dir: str | os.PathLike) -> str:
  """The same with subwords by byte pair encoding, of words cut from marks."""
  with recipe.generated(data_dir, NAME_BPE, VERSION) as (unfinished, order):
    corpora = _corpora()
    train = [
      _words(line) for side in corpora['train'].pairs(0, PAIRS['train'])
      for line in side
    ]  # fmt: skip
    merges = bpe.learn(bpe.count(train), _MERGES)
    cut = bpe.count(' '.join(merges.cut(line.split(' '))) for line in train)
    return of_translation.write(
      unfinished,
      {
        split: corpus.Texts(
          [_words(line) for line in source],
          # What is translated is compared with the text as it was.
          target if split == 'test' else [_words(line) for line in target],
        )
        for split, of in corpora.items()
        for source, target in [of.pairs(0, len(of))]
      },
      bpe.Vocabulary(bpe.by_frequency(cut), merges).padded(_MULTIPLE),
      name=NAME_BPE,
      description='Generated English sentences and their German translations.',
      shards={'train': _SHARDS, 'test': 1},
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  translation.verify(directory, **PAIRS)


def pairs() -> dict[str, list[Pair]]:
  """Split -> its pairs; none comes twice."""
  rng = random.Random(_SEED)
  unseen = unseen_compounds()
  found: dict[str, dict[str, Pair]] = {split: {} for split in PAIRS}
  while any(len(found[split]) < PAIRS[split] for split in PAIRS):
    pair = _Sentence(rng).pair()
    new = unseen.intersection(pair.compounds)
    split = 'test' if new or rng.random() < 0.02 else 'train'
    if len(found[split]) < PAIRS[split] and not any(
      pair.english in of for of in found.values()
    ):
      found[split][pair.english] = pair
  return {split: list(of.values()) for split, of in found.items()}


def unseen_compounds() -> set[str]:
  """The English compounds that come in the test alone."""
  every = [f'{a} {b.english}' for a in lexicon.FIRST for b in lexicon.SECOND]
  return set(every[::_UNSEEN])


def _corpora() -> dict[str, corpus.Texts]:
  return {
    split: corpus.Texts([p.english for p in of], [p.german for p in of])
    for split, of in pairs().items()
  }


def _words(line: str) -> str:
  """A line with spaces before its marks."""
  return re.sub('([,.])', r' \1', line)


class _Sentence:
  """One sentence, drawn: its scene is chosen first."""

  def __init__(self, rng: random.Random):
    self._rng = rng
    self._scene = rng.choice(lexicon.SCENES)
    self._compounds: list[str] = []

  def pair(self) -> Pair:
    rng = self._rng
    kind = rng.choice(('main', 'main', 'that', 'link'))
    placed = True  # the clause that says where
    if kind == 'main':
      english, german = self._main(placed)
    elif kind == 'that':
      subject = self._person(_SUBJECT)
      verb = rng.choice(lexicon.THINKING)
      thinks = _english_verb(verb, subject.plural)
      denkt = _german_verb(verb, subject.plural)
      that, dass = self._subordinate(placed)
      english = f'{subject.english} {thinks} that {that}'
      german = f'{subject.german} {denkt}, dass {dass}'
    else:
      link = rng.choice(lexicon.LINKS)
      placed = rng.random() < 0.5
      english, german = self._main(placed)
      clause, satz = self._subordinate(not placed)
      english = f'{english} {link.english} {clause}'
      german = f'{german}, {link.german} {satz}'
    return Pair(
      _capital(english) + '.', _capital(german) + '.', tuple(self._compounds)
    )

  def _main(self, placed: bool) -> tuple[str, str]:
    """A main clause: what it begins with, and then the finite verb."""
    clause = self._clause()
    rest = [*clause.objects]
    where = self._rng.choice(self._scene.places) if placed else None
    english = [clause.subject.english, clause.english]
    begin = clause.subject
    if self._rng.random() < 0.4:
      begin = self._rng.choice(lexicon.WHEN)
      english = [begin.english, *english]
    elif where and self._rng.random() < 0.4:
      begin, where = where, None
      english = [begin.english, *english]
    if begin is not clause.subject:
      rest = [clause.subject.german, *rest]
    if where:
      english.append(where.english)
      rest.append(where.german)
    german = [begin.german, clause.finite, *rest, *clause.closing]
    return ' '.join(english), ' '.join(german)

  def _subordinate(self, placed: bool) -> tuple[str, str]:
    """A subordinate clause: the finite verb is last."""
    clause = self._clause()
    english = [clause.subject.english, clause.english]
    german = [clause.subject.german, *clause.objects]
    if placed:
      where = self._rng.choice(self._scene.places)
      english.append(where.english)
      german.append(where.german)
    return ' '.join(english), ' '.join(
      [*german, *clause.closing, clause.finite]
    )

  def _clause(self) -> '_Clause':
    """Clause of a subject, a verb and an object."""
    rng = self._rng
    subject = self._person(_SUBJECT)
    kind = rng.choice(('doing', 'doing', 'helping', 'giving'))
    if kind == 'doing':
      verb = rng.choice(lexicon.DOING)
      objects = [self._thing(_OBJECT)]
    elif kind == 'helping':
      verb = rng.choice(lexicon.HELPING)
      objects = [self._person(_TO)]
    else:
      verb = rng.choice(lexicon.GIVING)
      objects = [self._person(_TO), self._thing(_OBJECT)]
    many = subject.plural
    tense = rng.choice(('present', 'perfect', 'modal'))
    if tense == 'present':
      words, finite = _english_verb(verb, many), _german_verb(verb, many)
      closing: list[str] = []
    elif tense == 'perfect':
      has, hat = ('have', 'haben') if many else ('has', 'hat')
      words, finite, closing = f'{has} {verb.seen}', hat, [verb.gesehen]
    else:
      words, finite = f'can {verb.see}', 'können' if many else 'kann'
      closing = [verb.sehen]
    english = ' '.join([words.replace('_', ' '), *(o.english for o in objects)])
    return _Clause(
      subject, english, finite, [o.german for o in objects], closing
    )

  def _person(self, case: int) -> lexicon.Phrase:
    return self._phrase(self._rng.choice(lexicon.PERSONS), case)

  def _thing(self, case: int) -> lexicon.Phrase:
    draw = self._rng.random()
    if draw < 0.35:
      return self._phrase(self._compound(), case)
    if draw < 0.65:
      return self._phrase(self._rng.choice(self._scene.meanings), case)
    return self._phrase(self._rng.choice(lexicon.THINGS), case)

  def _compound(self) -> lexicon.Noun:
    first = self._rng.choice(list(lexicon.FIRST))
    second = self._rng.choice(lexicon.SECOND)
    self._compounds.append(f'{first} {second.english}')
    return lexicon.Noun(
      f'{first} {second.english}',
      f'{first} {second.many}',
      lexicon.FIRST[first] + second.german.lower(),
      lexicon.FIRST[first] + second.viele.lower(),
      second.gender,
    )

  def _phrase(self, noun: lexicon.Noun, case: int) -> lexicon.Phrase:
    """A noun with its article, and often an adjective, in a case."""
    rng = self._rng
    plural = rng.random() < 0.3
    definite = plural or rng.random() < 0.6
    gender = 'p' if plural else noun.gender
    article = (lexicon.THE if definite else lexicon.A)[gender][case]
    words = [noun.many if plural else noun.english]
    german = [noun.viele if plural else noun.german]
    if plural and case == _TO and german[0][-1] not in 'ns':
      german[0] += 'n'
    if rng.random() < 0.4:
      adjective = rng.choice(list(lexicon.ADJECTIVES))
      ending = (lexicon.AFTER_THE if definite else lexicon.AFTER_A)[gender][
        case
      ]
      words = [adjective, *words]
      german = [lexicon.ADJECTIVES[adjective] + ending, *german]
    the = 'the' if definite else 'an' if words[0][0] in 'aeiou' else 'a'
    return lexicon.Phrase(
      ' '.join([the, *words]), ' '.join([article, *german]), plural
    )


@dataclasses.dataclass(frozen=True)
class _Clause:
  subject: lexicon.Phrase
  english: str  # verb and objects
  finite: str
  objects: Sequence[str]
  closing: Sequence[str]  # a participle or an infinitive


def _english_verb(verb: lexicon.Verb, plural: bool) -> str:
  return verb.see if plural else verb.sees


def _german_verb(verb: lexicon.Verb, plural: bool) -> str:
  return verb.sehen if plural else verb.sieht


def _capital(text: str) -> str:
  return text[0].upper() + text[1:]


def _recipe(name: str, build, end: int, how: str) -> recipe.Recipe:
  return recipe.Recipe(
    name=name,
    summary='generated English sentences and their German translations' + how,
    licence='none needed; it is generated',
    bytes=2_000_000,
    splits={name: translation.records(n) for name, n in PAIRS.items()},
    verify=verify,
    check=lambda features: of_translation.check(features, 2 * _SIZE, end),
    build=lambda order: build(order.data_dir),
  )


RECIPES = (
  _recipe(NAME, build, subwords.EOS, ''),
  _recipe(NAME_BPE, build_bpe, bpe.EOS, ', by byte pairs'),
)
