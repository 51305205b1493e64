"""Tests of data sets of text, of TFRecords, and of a dump."""

import bz2
import os
import struct
from unittest import mock

from absl.testing import absltest
import google_crc32c
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines.reading import dataset
from input_pipelines.wikipedia import dump, prepare
from input_pipelines.wikipedia import read as wikipedia
from input_pipelines.writing import recipe
from tests.input_pipelines.wikipedia import random_text

_DUMP = """\
<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10">
<page><title>Gold</title><ns>0</ns><revision><text xml:space="preserve">
{{I|a={{b}}}}
'''Gold''' is a [[metal|yellow metal]] of weight and worth, as all know who dig.
&lt;!-- no --> It is soft, and known [http://a.b to people] long before iron. %s
== Uses ==
* A list is left out, however long it is, as it has no sentences of its own.
{| class="x"
| tables too, of which nothing is to be left over in the text of an article
|}
== References ==
This sentence is long enough, but it comes after the references have begun.
</text></revision></page>
<page><title>Old</title><ns>0</ns><redirect title="Gold" /><revision><text>
#REDIRECT</text></revision></page>
<page><title>Talk</title><ns>1</ns><revision><text>%s</text></revision></page>
<page><title>Cut</title><ns>0</ns><revision><text>An excerpt may end here
"""
_MORE = 'This is one of the sentences that make an article long. ' * 8


def _records(path, samples):
  """Writes samples as the reference's create_pretraining_data.py does."""
  with open(path, 'wb') as file:
    for each in samples:
      tokens = np.zeros(24, int)
      tokens[: len(each.tokens)] = each.tokens
      mask = np.arange(24) < len(each.tokens)
      count = len(each.predicted)
      columns = {
        'input_ids': tokens,
        'input_mask': mask,
        'segment_ids': mask & (np.arange(24) >= each.first),
        'masked_lm_positions': np.pad(each.predicted, (0, 4 - count)),
        'masked_lm_ids': np.pad(each.labels, (0, 4 - count)),
        'next_sentence_labels': [each.is_random],
      }
      example = tf_example_pb2.Example()
      for name, values in columns.items():
        found = example.features.feature[name].int64_list.value
        found.extend(map(int, values))
      weights = example.features.feature['masked_lm_weights'].float_list.value
      weights.extend([1.0] * count + [0.0] * (4 - count))
      record = example.SerializeToString()
      length = struct.pack('<Q', len(record))
      file.write(length + _masked(length) + record + _masked(record))


def _masked(data):
  crc = google_crc32c.value(data)
  return struct.pack(
    '<I', (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
  )


class PrepareTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.text = self.create_tempdir().full_path
    self.data_dir = self.create_tempdir().full_path

  def build(self, data_dir=None, folder=None, **how):
    how = {'parts': 2, 'evaluated': 21, 'processes': 0, 'md5': {}} | how
    order = recipe.Order(data_dir or self.data_dir, folder or self.text)
    return prepare.build(order, settings=random_text.SETTINGS, **how)

  def test_text_and_the_records_of_the_reference_give_one_data_set(self):
    random_text.write_text(self.text, documents=(20, 30, 12))
    of_text = self.build()
    folder, words = self.create_tempdir().full_path, random_text.VOCABULARY
    for name in ('part-00000-of-00002', 'part-00001-of-00002'):
      made = prepare.of_text(
        os.path.join(self.text, name), words, random_text.SETTINGS
      )
      _records(os.path.join(folder, name), made)
    made = prepare.of_text(
      os.path.join(self.text, 'eval.txt'), words, random_text.SETTINGS
    )
    ratio = len(made) / 21
    picked = [made[int(i * ratio)] for i in range(21)]
    _records(os.path.join(folder, 'eval_10k'), picked)
    os.link(
      os.path.join(self.text, 'vocab.txt'), os.path.join(folder, 'vocab.txt')
    )
    of_records = self.build(self.create_tempdir().full_path, folder)
    self.assertEqual(wikipedia.facts(of_text), wikipedia.facts(of_records))
    for split, count in (('train', wikipedia.facts(of_text)['train']),
                         ('eval', 21)):  # fmt: skip
      one, other = (
        wikipedia.load(each, split, count) for each in (of_text, of_records)
      )
      for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(other, name), name)
    record = dataset.Split(of_text, 'train')[0]
    prepare.check(record, 17)
    with self.assertRaisesRegex(ValueError, r'tokens in \[0, 16\)'):
      prepare.check(record, 16)

  def test_a_build_that_was_stopped_resumes_with_the_next_part(self):
    random_text.write_text(self.text, documents=(20, 30, 12))
    made, write = [], prepare._write_part

    def stopping(unfinished, shard, part, *rest):
      if made:
        raise KeyboardInterrupt
      made.append(part.path)
      write(unfinished, shard, part, *rest)

    with (
      mock.patch.object(prepare, '_write_part', stopping),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.build()
    again = []

    def counting(unfinished, shard, part, *rest):
      again.append(part.path)
      write(unfinished, shard, part, *rest)

    with mock.patch.object(prepare, '_write_part', counting):
      directory = self.build()
    self.assertLen(again, 2)
    self.assertNotIn(made[0], again)
    wikipedia.verify(directory, evaluated=21)

  def test_what_lacks_or_was_changed_is_named(self):
    with self.assertRaisesRegex(FileNotFoundError, 'vocab.txt below'):
      self.build()
    random_text.write_text(self.text, documents=(20, 30, 12))
    with self.assertRaisesRegex(ValueError, 'Expected the MD5 00 of .*eval'):
      self.build(md5={'eval.txt': '00'})
    os.remove(os.path.join(self.text, 'eval.txt'))
    with self.assertRaisesRegex(FileNotFoundError, 'eval.txt or eval_10k'):
      self.build()

  def test_a_record_that_is_none_of_the_reference_is_refused(self):
    random_text.write_text(self.text, documents=(20, 30, 12))
    made = prepare.of_text(
      os.path.join(self.text, 'eval.txt'),
      random_text.VOCABULARY,
      random_text.SETTINGS,
    )
    path = os.path.join(self.text, 'records')
    _records(path, made[:2])
    longer = random_text.samples.Settings(length=32, predictions=4)
    with self.assertRaisesRegex(ValueError, 'Record 0 of .*input_mask'):
      list(prepare.of_records(path, longer))


class DumpTest(absltest.TestCase):
  def test_articles_have_sentences_and_no_markup(self):
    path = self.create_tempfile().full_path
    with bz2.open(path, 'wt', encoding='utf-8') as file:
      file.write(_DUMP % (_MORE, _MORE))
    with bz2.open(path) as file:
      (article,) = dump.articles(file)
    self.assertEqual(article.title, 'Gold')
    text = ' '.join(s for p in article.paragraphs for s in p)
    self.assertIn('Gold is a yellow metal of weight and worth, as all', text)
    self.assertIn('known to people long before iron.', text)
    self.assertEqual(text.count('This is one of the sentences'), 8)
    for left_out in ('{{', 'list', 'tables', 'references have', '[[', '<'):
      self.assertNotIn(left_out, text)
    self.assertGreaterEqual(article.sentences, 8)


if __name__ == '__main__':
  absltest.main()
