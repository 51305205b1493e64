"""Tests of the generated translations: what there is to learn in them."""

import collections
import hashlib
import os
import tempfile

from absl.testing import absltest

from input_pipelines.reading import dataset
from input_pipelines.translation import lexicon
from input_pipelines.translation import read as translation
from input_pipelines.translation import tiny as phrases
from suite.metrics import bleu


def _words(text):
  return text.lower().replace(',', ' ,').replace('.', ' .').split()


def _dictionary(pairs, rounds=3):
  """English word -> its likeliest German one (model 1 of IBM)."""
  texts = [(_words(p.english), _words(p.german)) for p in pairs]
  likely = collections.defaultdict(lambda: 1.0)
  for _ in range(rounds):
    counts, totals = collections.Counter(), collections.Counter()
    for english, german in texts:
      for g in german:
        all_of = sum(likely[e, g] for e in english)
        for e in english:
          counts[e, g] += likely[e, g] / all_of
          totals[e] += likely[e, g] / all_of
    likely = {pair: n / totals[pair[0]] for pair, n in counts.items()}
    likely = collections.defaultdict(float, likely)
  best = {}
  for (e, g), p in likely.items():
    if p > best.get(e, ('', 0.0))[1]:
      best[e] = g, p
  return {e: g for e, (g, _) in best.items()}


class PhrasesTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.pairs = phrases.pairs()
    cls.every = [p for of in cls.pairs.values() for p in of]

  def test_they_are_the_same_everywhere(self):
    text = '\n'.join(f'{p.english}\t{p.german}' for p in self.every)
    self.assertEqual(
      hashlib.sha256(text.encode()).hexdigest()[:16], 'c6357ac41abb4bea'
    )

  def test_it_is_built_found_and_read(self):
    with tempfile.TemporaryDirectory() as data_dir:
      directory = phrases.build(data_dir)
      self.assertEqual(dataset.find(data_dir, 'phrases'), directory)
      self.assertEqual(os.listdir(data_dir), ['phrases'])
      phrases.verify(directory)
      vocabulary = translation.vocabulary(directory)
      self.assertBetween(len(vocabulary), 500, 1000)
      texts = translation.load_texts(directory)
      test = translation.load(directory, 'test')
      for i, pair in enumerate(self.pairs['test']):
        self.assertEqual(texts.source[i], pair.english)
        self.assertEqual(texts.target[i], pair.german)
        self.assertEqual(vocabulary.sentence(test.source[i]), pair.english)
        self.assertEqual(vocabulary.sentence(test.target[i]), pair.german)

  def test_no_sentence_of_the_test_is_trained_on(self):
    train = {p.english for p in self.pairs['train']}
    self.assertLen(train, phrases.PAIRS['train'])
    self.assertEmpty(train.intersection(p.english for p in self.pairs['test']))

  def test_the_finite_verb_is_second_in_main_clauses_and_last_in_others(self):
    finite = {'hat', 'haben', 'kann', 'können'}
    for verb in (*lexicon.DOING, *lexicon.HELPING, *lexicon.GIVING):
      finite |= {verb.sieht, verb.sehen}
    subordinate = [p for p in self.every if ', ' in p.german]
    self.assertGreater(len(subordinate), 0.4 * len(self.every))
    for pair in subordinate:
      self.assertIn(pair.german.removesuffix('.').split()[-1], finite)
    links = 'because', 'when', 'although', 'that'
    for pair in self.every:
      main = pair.german.split(',')[0].removesuffix('.').split()
      english = pair.english.split()
      if main[0] in ('Heute', 'Oft', 'Jetzt', 'Manchmal', 'Wieder'):
        self.assertIn(main[1], finite)
        # In English the subject stands between.
        self.assertIn(english[1], ('the', 'a', 'an'))
      self.assertLessEqual(sum(w in links for w in english), 1)

  def test_articles_and_adjectives_follow_gender_number_and_case(self):
    found = collections.defaultdict(set)
    noun = {n.german: n.gender for n in lexicon.PERSONS}
    for pair in self.every:
      words = pair.german.removesuffix('.').replace(',', '').lower().split()
      for a, b, c in zip(words, words[1:], words[2:], strict=False):
        for name, gender in noun.items():
          if c == name.lower() and b.startswith('alt'):
            found[gender].add((a, b))
    self.assertContainsSubset(
      {('der', 'alte'), ('dem', 'alten'), ('ein', 'alter'), ('einem', 'alten')},
      found['m'],
    )
    self.assertContainsSubset(
      {('die', 'alte'), ('der', 'alten'), ('eine', 'alte'), ('einer', 'alten')},
      found['f'],
    )
    self.assertNotIn(('der', 'alte'), found['f'])
    self.assertContainsSubset({('das', 'alte'), ('ein', 'altes')}, found['n'])
    # The case follows from the verb.
    helped = [p for p in self.every if ' can help the man' in p.english]
    self.assertNotEmpty(helped)
    for pair in helped:
      self.assertIn('dem Mann', pair.german)

  def test_compounds_are_one_word_and_some_come_in_the_test_alone(self):
    unseen = phrases.unseen_compounds()
    for pair in self.pairs['train']:
      self.assertEmpty(unseen.intersection(pair.compounds))
    new = [p for p in self.pairs['test'] if unseen.intersection(p.compounds)]
    self.assertBetween(len(new), 100, 500)
    pair = next(p for p in self.every if 'garden door ' in p.english)
    self.assertIn('Gartentür', pair.german)
    parts = {c.split()[i] for p in self.pairs['train'] for c in p.compounds
             for i in (0, 1)}  # fmt: skip
    for first, second in (c.split() for c in unseen):
      self.assertContainsSubset({first, second}, parts)

  def test_where_a_sentence_takes_place_decides_what_words_mean(self):
    wild, town = lexicon.SCENES
    before, after = collections.Counter(), collections.Counter()
    for pair in self.every:
      places = [
        (scene, place)
        for scene in (wild, town)
        for place in scene.places
        if place.english in pair.english.lower()
      ]
      self.assertLen(places, 1, pair)
      scene, place = places[0]
      for one, other in zip(wild.meanings, town.meanings, strict=True):
        self.assertEqual(one.english, other.english)
        if f' {one.english} ' not in f' {pair.english[:-1]} ':
          continue
        meant, not_meant = (one, other) if scene is wild else (other, one)
        # Longer words may hold shorter ones: 'Kran' and 'Kranich'.
        german = pair.german.replace('.', ' ').replace(',', ' ').split()
        self.assertIn(meant.german, german)
        self.assertNotIn(not_meant.german, german)
        place_at = pair.english.lower().index(place.english)
        is_after = place_at > pair.english.index(f' {one.english}')
        (after if is_after else before)[one.english] += 1
    for one in wild.meanings:
      self.assertGreater(after[one.english], 25)
      self.assertGreater(before[one.english], 25)

  def test_word_by_word_translations_are_bad(self):
    dictionary = _dictionary(self.pairs['train'][:800])
    test = self.pairs['test']
    got = [
      ' '.join(dictionary.get(w, w) for w in _words(p.english)) for p in test
    ]
    references = [p.german for p in test]
    by_word = bleu.bleu(references, got)
    self.assertBetween(by_word, 0.02, 0.2)
    self.assertEqual(bleu.bleu(references, references), 1.0)
    # Nor is order all: the right words of the sentence, in English order, miss.
    shuffled = [' '.join(sorted(_words(p.german))) for p in test]
    self.assertLess(bleu.bleu(references, shuffled), 0.1)


if __name__ == '__main__':
  absltest.main()
