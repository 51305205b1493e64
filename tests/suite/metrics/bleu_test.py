"""Tests of BLEU; golden numbers are the reference's own code's."""

import importlib.util
import random
import sys
import unicodedata

from absl.testing import absltest, parameterized

from suite.metrics import bleu

_REFERENCES = [
  'The cat, which is 3.5 years old, sat on the mat.',
  'He paid $5 (five) \u2013 in 1997.',
  '"Guten Tag", sagte er.',
  'A\\B is no path; C:\\D is.',
  'Yes!',
]
_TRANSLATIONS = [
  'the cat which is 3.5 years old sat on a mat.',
  'He paid 5 $ (five) - in 1997.',
  '"Guten Tag" , sagte sie .',
  'A\\B is a path; C:\\D is.',
  'yes !',
]


class TokenizeTest(parameterized.TestCase):
  @parameterized.parameters(
    (_REFERENCES[0], 'The cat , which is 3.5 years old , sat on the mat .'),
    (_REFERENCES[1], 'He paid $ 5 ( five ) \u2013 in 1997.'),
    (_REFERENCES[3], 'A\\B is no path ; C : \\D is .'),
    ('1,000.5-7', '1,000.5-7'),
    ('end 1997.', 'end 1997.'),
    ('a€b', 'a € b'),
    ("don't—stop", "don ' t — stop"),
    ('_x_', '_ x _'),
    ('😀a!', '😀 a !'),
    ('²½', '²½'),
    ('', ''),
  )
  def test_words_are_cut_as_the_reference_cuts_them(self, text, words):
    self.assertEqual(bleu.tokenize(text), words.split())

  def test_texts_of_one_plane_are_cut_alike_by_both_patterns(self):
    quick, full = bleu._cuts(False), bleu._cuts(True)
    every = ''.join(f'a{chr(c)}1' for c in range(0x3100))
    for name in ('after_other', 'before_other', 'symbol'):
      self.assertEqual(
        getattr(quick, name).findall(every), getattr(full, name).findall(every)
      )

  def test_every_mark_and_symbol_but_one_stands_alone_between_letters(self):
    for c in map(chr, range(sys.maxunicode)):
      if unicodedata.category(c)[0] in 'PS' and c != '\\':
        self.assertEqual(bleu.tokenize(f'a{c}b'), ['a', c, 'b'])


class BleuTest(parameterized.TestCase):
  @parameterized.parameters((False, 0.50167762756), (True, 0.48762069702))
  def test_a_corpus_scores_as_by_the_reference(self, cased, expected):
    came = bleu.bleu(_REFERENCES, _TRANSLATIONS, cased=cased)
    self.assertAlmostEqual(came, expected, places=6)

  @parameterized.parameters(
    (_REFERENCES, [t[:9] for t in _TRANSLATIONS], 0.05670149803),
    (['a b c d e f'], ['f x y z b'], 0.10400597572),
    (['a b'], ['a b'], 1.0),  # no trigrams count as all of them
    (['a b c d'], ['x y'], 0.18393972397),
    (['a b c d'], [''], 0.0),
  )
  def test_short_and_wrong_translations_score_as_by_the_reference(
    self, references, translations, expected
  ):
    came = bleu.bleu(references, translations)
    self.assertAlmostEqual(came, expected, places=6)

  def test_the_order_of_sentences_does_not_matter(self):
    came = bleu.bleu(_REFERENCES[::-1], _TRANSLATIONS[::-1])
    self.assertAlmostEqual(came, bleu.bleu(_REFERENCES, _TRANSLATIONS))

  def test_repeating_a_word_does_not_pay(self):
    self.assertLess(
      bleu.bleu(['the cat is on the mat'], ['the the the the the the']),
      bleu.bleu(['the cat is on the mat'], ['the cat on mat the is']),
    )

  def test_sacrebleu_with_the_same_words_agrees(self):
    # By sacrebleu 2.6, corpus_bleu(tokenize='intl', lowercase=True).
    # It takes '\' for punctuation, so that sentence is left out.
    kept = [0, 1, 2, 4]
    came = bleu.bleu(
      [_REFERENCES[i] for i in kept], [_TRANSLATIONS[i] for i in kept]
    )
    self.assertAlmostEqual(came, 0.42943623443599265, places=9)

  @absltest.skipUnless(
    importlib.util.find_spec('sacrebleu'), 'sacrebleu is not installed'
  )
  def test_sacrebleu_agrees_on_random_corpora(self):
    import sacrebleu

    rng = random.Random(0)
    words = 'der die Hund sieht . , ; Haus-Tür 3.5 (ja) nein € zwölf'
    for _ in range(50):
      references = [
        ' '.join(rng.choices(words.split(), k=rng.randrange(5, 20)))
        for _ in range(6)
      ]
      translations = [
        ' '.join(w for w in text.split() if rng.random() < 0.85)
        for text in references
      ]
      theirs = sacrebleu.corpus_bleu(
        translations, [references], tokenize='intl', lowercase=True
      )
      ours = bleu.bleu(references, translations)
      self.assertAlmostEqual(100 * ours, theirs.score, places=6)

  @parameterized.parameters((['a'], []), ([], []))
  def test_corpora_that_do_not_match_are_refused(self, references, came):
    with self.assertRaisesRegex(ValueError, 'as many references'):
      bleu.bleu(references, came)


# Of sacrebleu 1.2.10 with --score-only -lc --tokenize intl.
_PRINTED = (
  65.97,
  53.05,
  53.11,
  53.91,
  63.08,
  60.9,
  71.28,
  62.28,
  78.75,
  53.85,
  59.48,
  76.22,
)


class PrintedTest(absltest.TestCase):
  def test_it_is_what_sacrebleu_prints(self):
    for seed, expected in enumerate(_PRINTED):
      references, translations = _drawn(seed)
      counts = sum(map(bleu.count, references, translations))
      self.assertEqual(round(100 * bleu.printed(counts), 6), expected, seed)

  def test_translations_of_three_words_have_none(self):
    counts = bleu.count('a b c', 'a b c')
    self.assertEqual(bleu.printed(counts), 0.0)
    self.assertEqual(bleu.printed(bleu.count('a b c d', 'A b c d')), 1.0)
    self.assertEqual(bleu.printed(bleu.count('a b c d', '')), 0.0)


def _drawn(seed):
  """Some pairs of texts that have words in common."""
  draws = random.Random(seed)
  words = [*'abcdef', 'Größe', 'x,', '3.5', '$5', '"', 'C:\\D', '1997.', '½!']
  references = [draws.choices(words, k=draws.randint(1, 12)) for _ in range(9)]
  translations = [
    [w if draws.random() < 0.8 else draws.choice(words) for w in each]
    for each in references
  ]
  return [' '.join(r) for r in references], [' '.join(t) for t in translations]


if __name__ == '__main__':
  absltest.main()
