"""Tests of preparing parallel text: files, TFDS data sets, resuming."""

import glob
import hashlib
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.reading import dataset
from input_pipelines.text import subwords
from input_pipelines.translation import NAME, corpus, encoding, prepare
from input_pipelines.translation import read as translation
from input_pipelines.writing import manifest, recipe, verify
from tests.input_pipelines.reading import fake_tfds

_COUNTS = {name: 5 + i for i, name in enumerate(prepare.TRAIN)}


def _text(name, language, count):
  return [f'{name} {i} in {language}, Zeile {i}' for i in range(count)]


def write_texts(folder, counts=_COUNTS, test=4):
  """Writes parallel text as WMT's, some of it in a folder of its own."""
  inside = os.path.join(folder, 'training')
  os.makedirs(inside, exist_ok=True)
  for name, count in {**counts, prepare.TEST: test}.items():
    for language in prepare.LANGUAGES:
      where = folder if name == prepare.TEST else inside
      lines = _text(name, language, count)
      with open(os.path.join(where, f'{name}.{language}'), 'w') as file:
        file.write('\n'.join(lines) + '\n' * (language == 'en'))


def write_tfds(data_dir, name, split, count):
  """Writes a data set of TFDS's translations."""
  name, config = name.split('/')
  fake_tfds.write(
    data_dir,
    name=name,
    config=config,
    version='1.0.0',
    features=tfds.features.FeaturesDict(
      {'de': tfds.features.Text(), 'en': tfds.features.Text()}
    ),
    examples={
      split: [
        {'de': f' {name} {i} auf deutsch ', 'en': f'{name} {i} in English'}
        for i in range(count)
      ]
    },
  )


class PrepareTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.enterContext(tempfile.TemporaryDirectory())
    self.downloads = self.enterContext(tempfile.TemporaryDirectory())
    self.enterContext(mock.patch.object(translation, 'BLOCK', 8))

  def build(self, **how):
    how = {'md5': {}, 'min_count': 1, **how}
    return prepare.build(recipe.Order(self.data_dir, self.downloads), **how)

  def texts(self, directory, split):
    vocabulary = translation.vocabulary(directory)
    pairs = translation.load(directory, split)
    return [
      [vocabulary.sentence(side[i]) for i in range(len(side))]
      for side in (pairs.source, pairs.target)
    ]

  def test_files_become_a_data_set_in_the_references_order(self):
    write_texts(self.downloads)
    directory = self.build()
    self.assertEqual(dataset.find(self.data_dir, NAME), directory)
    translation.verify(directory, train=18, test=4)
    for split, counts in (('train', _COUNTS), ('test', {prepare.TEST: 4})):
      for i, language in enumerate(prepare.LANGUAGES):
        lines = [x for n, c in counts.items() for x in _text(n, language, c)]
        self.assertEqual(self.texts(directory, split)[i], lines)
    texts = translation.load_texts(directory)
    self.assertEqual(texts.target, _text(prepare.TEST, 'de', 4))
    size = translation.facts(directory)['subwords']
    read = verify.records(
      directory, {'train': 3, 'test': 1}, lambda f: prepare.check(f, size)
    )
    self.assertEqual(read, 4)
    manifest.check_sums(directory)
    self.assertEqual(os.listdir(os.path.dirname(directory)), ['1.0.0'])

  def test_a_vocabulary_that_is_there_is_used(self):
    write_texts(self.downloads)
    vocabulary = subwords.build({'Zeile': 9, 'in': 9}, size=0, min_count=3)
    path = os.path.join(self.downloads, prepare.VOCABULARY)
    with open(path, 'w') as file:
      file.write(vocabulary.text())
    directory = self.build()
    self.assertEqual(
      translation.vocabulary(directory).subwords, vocabulary.subwords
    )
    options = manifest.read(directory)['made']['options']
    self.assertNotIn('vocabulary', options)

  def test_tfds_data_sets_will_do(self):
    write_tfds(self.data_dir, prepare.TFDS_TRAIN, 'train', 20)
    write_tfds(self.data_dir, prepare.TFDS_TEST, 'test', 3)
    directory = self.build()
    english, german = self.texts(directory, 'train')
    self.assertEqual(english[7], 'wmt17_translate 7 in English')
    self.assertEqual(german[19], 'wmt17_translate 19 auf deutsch')
    self.assertLen(english, 20)
    texts = translation.load_texts(directory)
    self.assertEqual(texts.source[2], 'wmt14_translate 2 in English')

  def test_processes_encode_the_same(self):
    write_texts(self.downloads)
    here = self.build(processes=0)
    with tempfile.TemporaryDirectory() as self.data_dir:
      there = self.build(processes=2)
      for name in ('train', 'test'):
        for side in translation.SIDES:
          np.testing.assert_array_equal(
            getattr(translation.load(here, name), side).tokens,
            getattr(translation.load(there, name), side).tokens,
          )

  def test_a_build_that_was_stopped_goes_on(self):
    write_texts(self.downloads)
    encode, calls = encoding.encode, []

    def stop_at_third(*args):
      calls.append(args)
      if len(calls) == 3:
        raise KeyboardInterrupt
      return encode(*args)

    with (
      mock.patch.object(encoding, 'encode', stop_at_third),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.build()
    with self.assertRaises(FileNotFoundError):
      dataset.find(self.data_dir, NAME)
    kept = glob.glob(f'{self.data_dir}/*/*/encoded/*.npz')
    self.assertBetween(len(kept), 1, 3)  # of 4; threads end at their next tick
    done = []
    with mock.patch.object(
      encoding, 'encode', lambda *a: (done.append(a), encode(*a))[1]
    ):
      directory = self.build()
    self.assertLen(done, 2 * (4 - len(kept)))  # the two sides of the others
    translation.verify(directory, train=18, test=4)

  def test_going_on_with_other_text_is_refused(self):
    write_texts(self.downloads)
    with (
      mock.patch.object(
        prepare, '_write_lengths', side_effect=KeyboardInterrupt
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.build()
    with self.assertRaisesRegex(ValueError, 'the options differ'):
      self.build(min_count=2)

  def test_what_lacks_is_told(self):
    with self.assertRaisesRegex(FileNotFoundError, 'wmt17_translate/de-en'):
      self.build()
    write_texts(self.downloads)
    os.remove(
      os.path.join(self.downloads, 'training', f'{prepare.TRAIN[1]}.de')
    )
    with self.assertRaisesRegex(
      FileNotFoundError, 'of commoncrawl.de-en below'
    ):
      self.build()

  def test_files_of_unequal_lines_are_refused(self):
    write_texts(self.downloads)
    with open(f'{self.downloads}/training/{prepare.TRAIN[0]}.de', 'a') as file:
      file.write('\nmore')
    with self.assertRaisesRegex(ValueError, 'got 5 and 6'):
      self.build()
    self.assertEqual(os.listdir(self.data_dir), [])

  def test_a_file_that_is_another_is_refused(self):
    write_texts(self.downloads)
    name = f'{prepare.TEST}.en'
    with open(os.path.join(self.downloads, name), 'rb') as file:
      got = hashlib.md5(file.read()).hexdigest()
    with self.assertRaisesRegex(ValueError, f'Expected the MD5 0+ .*{got}'):
      self.build(md5={name: '0' * 32})
    self.build(md5={name: got})


class CorpusTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 5, 6, 7, 100)
  def test_lines_are_found_by_number(self, count):
    content = ''.join(f'line\u2028 {i}\r\n' for i in range(count))
    path = self.create_tempfile(content='').full_path
    for piece in (3, 10_000):
      for text in (content, content.removesuffix('\n')):
        with open(path, 'wb') as file:
          file.write(text.encode())
        with (
          mock.patch.object(corpus, '_EVERY', 3),
          mock.patch.object(corpus, '_PIECE', piece),
        ):
          file = corpus.File(path)
          self.assertLen(file, count)
          for first in range(0, count, 4):
            end = min(first + 5, count)
            expected = [f'line\u2028 {i}' for i in range(first, end)]
            self.assertEqual(list(file.lines(first, end)), expected)

  def test_a_line_that_is_no_text_is_told(self):
    path = self.create_tempfile(content=b'good\n\xff\n', mode='wb').full_path
    with self.assertRaisesRegex(ValueError, 'UTF-8 in line 2 of'):
      list(corpus.File(path).lines())

  def test_samples_are_spread_and_bounded(self):
    texts = corpus.Texts([f'{i:04d}' for i in range(1000)], ['x' * 4] * 1000)
    found = list(texts.samples(100))
    # Of 4000 characters: one line of 21, until 100 are passed.
    self.assertEqual(found[:3], ['0020', '0041', '0062'])
    self.assertLen(found, 2 * 26)


if __name__ == '__main__':
  absltest.main()
