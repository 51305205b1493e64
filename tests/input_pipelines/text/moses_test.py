"""Tests of Moses' rules, with what its own scripts gave.

They are those of mosesdecoder, commit 8c5eaa1a122236bbf927bde4ec610906fea599e6.
"""

from absl.testing import absltest, parameterized

from input_pipelines.text import moses

DETOKENIZED = (
  (
    'Der Hund sieht , dass die Katze schläft .',
    'Der Hund sieht, dass die Katze schläft.',
  ),
  ('Er sagte : &quot; Das ist gut ! &quot;', 'Er sagte: "Das ist gut!"'),
  ('das Haus der Jones &apos; Familie', "das Haus der Jones' Familie"),
  ("the Jones ' house ' s", "the Jones' house 's"),
  ('it &apos;s 3.5 % ( or $ 5 )', "it's 3.5% (or $5)"),
  ('„ Ja “ , sagte er', '„Ja“, sagte er'),
  ('&quot; a &quot; b &quot; c', '"a" b "c'),
  ('&amp;lt; &lt; &#91; x &#93; &#124;', '&lt; < [x] |'),
  ('Rot @-@ Grün', 'Rot-Grün'),
  ('< unk > a < b >', '< unk > a < b >'),
  ('¿ qué ?', '¿qué?'),
  ('日本 語 und 한 국', '日本語 und 한국'),
  ('he &apos; s', "he 's"),
  ('1990 &apos;s', "1990's"),
  ('` a ` b `', '`a` b `'),
  ('', ''),
  ('  zwei   Worte  ', 'zwei Worte'),
  ('... und ?!', '... und?!'),
  ("` `` '' x", "```''x"),
  ("x² 's", "x² 's"),
  ('<unk> a', '<unk> a'),
)


class DetokenizeTest(parameterized.TestCase):
  @parameterized.parameters(*DETOKENIZED)
  def test_it_writes_what_the_script_writes(self, tokenized, expected):
    self.assertEqual(moses.detokenize(tokenized), expected)


class CleanTest(parameterized.TestCase):
  @parameterized.parameters(
    ('a b', 'c', True),
    ('', 'c', False),
    ('a', '', False),
    ('a ' * 79 + 'a', 'b ' * 79 + 'b', True),
    ('a ' * 80 + 'a', 'b ' * 79 + 'b', False),
    ('a ' * 8 + 'a', 'b', True),
    ('a ' * 9 + 'a', 'b', False),
    ('b', 'a ' * 9 + 'a', False),
    ('a' * 1000, 'b', True),
    ('a' * 1001, 'b', False),
  )
  def test_pairs_that_are_kept(self, source, target, kept):
    self.assertEqual(moses.is_clean(source, target, most=80), kept)

  def test_lines_are_squeezed(self):
    self.assertEqual(moses.squeezed(' a  |b\tc | d '), 'a b c d')

  @parameterized.parameters(('Größe ÿ', True), ('\u2013', False), ('Ā', False))
  def test_characters_of_latin_1(self, text, kept):
    self.assertEqual(moses.is_latin(text), kept)


if __name__ == '__main__':
  absltest.main()
