"""Tests of WMT16's preparation, on small text with the faults of the real one.

The tokenizer stands in for Moses': it is in Perl, too, and takes the same
arguments, but only cuts commas and full stops.
"""

import os
import shutil
from unittest import mock

from absl.testing import absltest

from input_pipelines.text import bpe
from input_pipelines.translation import prepare, wmt16
from input_pipelines.translation import read as translation
from input_pipelines.writing import recipe

_TOKENIZER = """\
my %asked = @ARGV[1 .. $#ARGV];
die 'the language' unless $asked{'-l'} =~ /^(en|de)$/;
while (<STDIN>) { s/([,.])/ $1/g; print; }
"""
_KEPT = [
  ('The dog sees a cat.', 'Der Hund sieht eine Katze.'),
  ('The  cat | sleeps,', 'Die Katze schläft,'),
  ('The small dogs sleep.', 'Die kleinen Hunde schlafen.'),
]
# Of two corpora: what is left out is empty, too long, too unlike, or not
# Latin-1.
_LEFT_OUT = [
  ('', 'Der Hund.'),
  ('The dog.', ''),
  ('a ' * 81, 'b ' * 81),
  ('a ' * 11, 'b'),
  ('The dog \u2013 sleeps.', 'Der Hund schläft.'),
  ('The dog.', 'Der \u0141.'),
]
_TEST = [
  ('The dog sleeps \u2013 a lot.', 'Der Hund schläft \u2013 viel.'),
  ('a ' * 90, 'b ' * 90),  # evals leave nothing out
]


def _write(folder, stem, pairs):
  for side, language in enumerate(('en', 'de')):
    path = os.path.join(folder, f'{stem}.{language}')
    with open(path, 'w', encoding='utf-8', newline='\n') as file:
      file.writelines(f'{pair[side]}\n' for pair in pairs)


@absltest.skipUnless(shutil.which('perl'), 'needs Perl')
class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.downloads = self.create_tempdir().full_path
    corpora = ([*_LEFT_OUT[:3], _KEPT[0]], _LEFT_OUT[3:], _KEPT[1:])
    for stem, pairs in zip(wmt16.TRAIN, corpora, strict=True):
      _write(self.downloads, stem, pairs)
    _write(self.downloads, wmt16.TEST, _TEST)
    folder = os.path.join(self.downloads, 'mosesdecoder', 'scripts')
    os.makedirs(folder)
    with open(os.path.join(folder, wmt16.TOKENIZER), 'w') as file:
      file.write(_TOKENIZER)
    self.data_dir = self.create_tempdir().full_path

  def order(self, **how):
    how = {'check_downloads': False, 'threads': 1, **how}
    return recipe.Order(self.data_dir, self.downloads, **how)

  def build(self):
    return wmt16.build(self.order(), merges=20, processes=0)

  def stopped(self):
    """A build that ends before anything is numbered."""
    with (
      mock.patch.object(prepare, 'write', side_effect=RuntimeError),
      self.assertRaises(RuntimeError),
    ):
      self.build()

  def texts(self, directory):
    words = translation.vocabulary(directory)
    pairs = translation.load(directory, 'train')
    return [
      tuple(words.sentence(side[i]) for side in (pairs.source, pairs.target))
      for i in range(len(pairs))
    ]

  def test_pairs_are_cleaned_cut_and_numbered(self):
    directory = self.build()
    self.assertEqual(
      self.texts(directory),
      [(a.replace('|', ' ').replace('   ', ' ').replace('  ', ' '), b)
       for a, b in _KEPT],
    )  # fmt: skip
    words = translation.vocabulary(directory)
    self.assertIsInstance(words, bpe.Vocabulary)
    self.assertEqual(len(words) % 8, 0)
    pairs = translation.load(directory, 'train')
    for side in (pairs.source, pairs.target):
      for i in range(len(side)):
        self.assertEqual((side[i][0], side[i][-1]), (bpe.START, bpe.EOS))
    lengths = translation.train_lengths(directory)
    self.assertEqual(lengths[0, 0], len(pairs.source[0]))

  def test_the_test_keeps_every_sentence_and_its_translation_as_it_was(self):
    directory = self.build()
    self.assertEqual(
      list(translation.load_texts(directory).target),
      [target.strip() for _, target in _TEST],
    )
    source = translation.load(directory, 'test').source
    self.assertGreater(len(source[1]), 90)
    # The dash came in no training pair.
    self.assertIn(bpe.UNKNOWN, source[0])

  def test_the_most_frequent_subword_comes_first(self):
    directory = self.build()
    words = translation.vocabulary(directory).subwords
    counts = dict.fromkeys(words, 0)
    pairs = translation.load(directory, 'train')
    for side in (pairs.source, pairs.target):
      for number in side.tokens:
        counts[words[number]] += 1
    found = [counts[w] for w in words[4:]]
    self.assertEqual(found, sorted(found, reverse=True))

  def test_what_the_reference_s_script_wrote_is_numbered_alike(self):
    directory = self.build()
    expected = self.texts(directory)
    made = {}
    with mock.patch.object(
      wmt16, 'cut', side_effect=wmt16.cut, autospec=True
    ) as cut:
      shutil.rmtree(self.data_dir)
      self.stopped()
      self.assertEqual(cut.call_count, 1)
    for folder, _, names in os.walk(self.data_dir):
      made |= {name: os.path.join(folder, name) for name in names}
    other = self.create_tempdir().full_path
    for name in (
      'train.tok.clean.bpe.32000.en', 'train.tok.clean.bpe.32000.de',
      'newstest2014.tok.bpe.32000.en', 'vocab.bpe.32000',
    ):  # fmt: skip
      shutil.copy(made[name], other)
    shutil.copy(os.path.join(self.downloads, 'newstest2014.de'), other)
    self.downloads, self.data_dir = other, self.create_tempdir().full_path
    with mock.patch.object(wmt16, 'cut', side_effect=AssertionError):
      self.assertEqual(self.texts(self.build()), expected)

  def test_a_build_that_was_stopped_makes_nothing_twice(self):
    self.stopped()
    with mock.patch.object(wmt16.subprocess, 'run', side_effect=AssertionError):
      self.assertLen(self.texts(self.build()), len(_KEPT))

  def test_other_text_than_the_reference_s_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'MD5 f6c3818b.*/newstest2014.de'):
      wmt16.build(self.order(check_downloads=True), merges=20)

  def test_what_is_missing_is_named(self):
    os.remove(os.path.join(self.downloads, f'{wmt16.TRAIN[1]}.de'))
    shutil.rmtree(os.path.join(self.downloads, 'mosesdecoder'))
    with self.assertRaisesRegex(
      FileNotFoundError,
      r'Expected commoncrawl.de-en.de, tokenizer.perl below .*, or '
      r'train.tok.clean.bpe.32000.en, ',
    ):
      self.build()


if __name__ == '__main__':
  absltest.main()
