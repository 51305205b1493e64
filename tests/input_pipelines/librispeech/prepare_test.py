"""Tests of preparing LibriSpeech from archives, and from TFDS's files."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import sentencepiece
import soundfile
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines.librispeech import prepare, read, tiny
from input_pipelines.reading import dataset, examples
from input_pipelines.text import pieces
from input_pipelines.writing import recipe
from tests import benchmark_runs
from tests.input_pipelines.librispeech import fake_speech
from tests.input_pipelines.reading import fake_tfds

SETS = [name for name in fake_speech.COUNTS if name != 'dev-clean']


def setUpModule():
  global DIRECTORY
  DIRECTORY = benchmark_runs.small('rnnt').directory


def _all(directory, split):
  """(id, speaker, text, tokens, sound) of the records in their order."""
  found = []
  records = dataset.Split(directory, split)
  for number in range(len(records)):
    features = records[number]
    each = read.utterance(features)
    found.append((
      examples.one(features, 'id').decode(),
      features['speaker_id'].int64_list.value[0],
      each.text,
      each.tokens.tolist(),
      each.sound,
    ))  # fmt: skip
  return found


class ArchivesTest(parameterized.TestCase):
  def folder(self):
    folder = self.create_tempdir().full_path
    few = dict.fromkeys(fake_speech.COUNTS, 11)
    fake_speech.write_archives(folder, few)
    return folder

  def build(self, folder, **how):
    order = recipe.Order(self.create_tempdir().full_path, folder)
    how = {'md5': {}, 'size': fake_speech.PIECES, **how}
    return prepare.build(order, **how)

  def test_records_are_the_utterances_of_the_archives(self):
    vocabulary = read.vocabulary(DIRECTORY)
    for split, names in ((read.TRAIN, SETS), (read.EVAL, ['dev-clean'])):
      found, lengths = _all(DIRECTORY, split), read.lengths(DIRECTORY, split)
      expected = [
        (name, n) for name in names for n in range(fake_speech.COUNTS[name])
      ]
      self.assertLen(found, len(expected))
      for (key, speaker, text, tokens, sound), place, length in zip(
        found, expected, lengths.tolist(), strict=True
      ):
        wanted, said = fake_speech.utterance(*place)
        chapter = place[1] // 10 * 10
        self.assertEqual(key, f'7-{chapter}-{place[1]:04d}')
        self.assertEqual((speaker, text), (7, said.lower()))
        np.testing.assert_allclose(sound, wanted, atol=2**-15)
        self.assertEqual(vocabulary.decode(tokens), text)
        self.assertEqual(length, [len(wanted), len(tokens)])

  def test_speech_is_kept_as_it_was_published(self):
    split = dataset.Split(DIRECTORY, read.EVAL)
    self.assertEqual(
      examples.one(split[3], 'speech'),
      tiny.flac(fake_speech.utterance('dev-clean', 3)[0]),
    )

  def test_the_vocabulary_is_sentencepieces_of_what_is_trained_on(self):
    texts = [text for *_, text, _, _ in _all(DIRECTORY, read.TRAIN)]
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'text.txt')
    with open(path, 'w', encoding='utf-8') as file:
      file.writelines(f'{text}\n' for text in texts)
    # The options of the reference's create_sentencepieces.sh.
    sentencepiece.SentencePieceTrainer.train(
      input=path,
      model_prefix=os.path.join(folder, 'their'),
      vocab_size=fake_speech.PIECES,
      character_coverage=1.0,
      bos_id=-1,
      eos_id=-1,
      model_type='unigram',
      minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(
      model_file=os.path.join(folder, 'their.model')
    )
    ours = read.vocabulary(DIRECTORY)
    self.assertLen(ours, fake_speech.PIECES)
    self.assertEqual(theirs.id_to_piece(0), '<unk>')
    for text in texts:
      self.assertEqual(ours.encode(text).tolist(), theirs.encode(text))

  def test_a_build_that_was_stopped_resumes_and_is_the_same(self):
    folder, real = self.folder(), prepare._example
    order = recipe.Order(self.create_tempdir().full_path, folder, threads=1)
    written = []

    def fails(spoken, text, words):
      written.append(spoken.id)
      if len(written) == 25:
        raise OSError('The disk is full.')
      return real(spoken, text, words)

    how = {'md5': {}, 'size': fake_speech.PIECES}
    with mock.patch.object(prepare, '_SHARD', 4):
      with (
        mock.patch.object(prepare, '_example', fails),
        self.assertRaisesRegex(OSError, 'full'),
      ):
        prepare.build(order, **how)
      written.clear()
      with mock.patch.object(
        prepare, '_example', lambda *a: written.append(a[0].id) or real(*a)
      ):
        resumed = prepare.build(order, **how)
      self.assertLess(len(written), 44 - 16)
      whole = self.build(folder)
    for split in read.SPLITS:
      for one, other in zip(
        _all(resumed, split), _all(whole, split), strict=True
      ):
        self.assertEqual(one[:4], other[:4])
        np.testing.assert_array_equal(one[4], other[4])
      np.testing.assert_array_equal(
        read.lengths(resumed, split), read.lengths(whole, split)
      )

  def test_a_data_set_beside_the_archives_is_not_taken_for_tfdss(self):
    folder = self.folder()
    built = os.path.join(folder, 'a', read.TRAIN)
    os.makedirs(built)
    shutil.copy(os.path.join(DIRECTORY, 'dataset_info.json'), built)
    found = prepare.find(recipe.Order(folder, folder), {})
    self.assertEqual(found[read.EVAL][0].name, 'dev-clean.tar.gz')

  def test_an_archive_that_lacks_is_named(self):
    folder = self.folder()
    os.remove(os.path.join(folder, 'train-clean-360.tar.gz'))
    with self.assertRaisesRegex(
      FileNotFoundError, 'train-clean-360.tar.gz below .* 0 archives more'
    ):
      self.build(folder)

  def test_an_archive_with_another_checksum_is_refused(self):
    folder = self.folder()
    path = os.path.join(folder, 'dev-clean.tar.gz')
    with open(path, 'rb') as file:
      md5 = hashlib.md5(file.read()).hexdigest()
    with self.assertRaisesRegex(ValueError, f'MD5 123 of .*, got {md5}'):
      self.build(folder, md5={'dev-clean.tar.gz': '123'})
    self.build(folder, md5={'dev-clean.tar.gz': md5})

  def test_an_archive_that_was_cut_off_is_refused(self):
    folder = self.folder()
    path = os.path.join(folder, 'dev-clean.tar.gz')
    os.truncate(path, os.path.getsize(path) // 2)
    with self.assertRaisesRegex(ValueError, 'a whole archive of LibriSpeech'):
      self.build(folder)

  def test_speech_that_is_none_is_named(self):
    spoken = prepare.Spoken('7-0-0001', b'RIFF')
    words = read.vocabulary(DIRECTORY)
    with self.assertRaisesRegex(ValueError, '7-0-0001 .* Expected FLAC'):
      prepare._example(spoken, 'a', words)
    stereo = io.BytesIO()
    soundfile.write(stereo, np.zeros((9, 2)), 16_000, format='FLAC')
    with self.assertRaisesRegex(ValueError, 'one channel .*, got 2 of 16000'):
      read.decode(stereo.getvalue())

  def test_a_text_that_its_pieces_do_not_say_is_refused(self):
    words = read.vocabulary(DIRECTORY)
    sound = tiny.flac(fake_speech.utterance('dev-clean', 3)[0])
    prepare._example(prepare.Spoken('7-0-0001', sound), ' ab  c', words)
    # SentencePiece takes this for the letter a, as NFKC does.
    with self.assertRaisesRegex(
      ValueError, "7-0-0001 to say '\uff41', got 'a'"
    ):
      prepare._example(prepare.Spoken('7-0-0001', sound), '\uff41', words)

  @parameterized.parameters('7-0-0000', '7-0-0000 ', '7-0-0009 A')
  def test_an_utterance_without_a_text_is_named(self, line):
    path = os.path.join(self.create_tempdir().full_path, 'set.tar.gz')
    with tarfile.open(path, 'w:gz') as tape:
      fake_speech.add(tape, '7-0-0000.flac', b'')
      fake_speech.add(tape, '7-0.trans.txt', f'{line}\n'.encode())
    with self.assertRaisesRegex(ValueError, 'a text of 7-0-0000 in .*set.tar'):
      prepare.archive(path).texts(lambda count: None)

  def test_a_text_with_an_unknown_letter_is_refused(self):
    with self.assertRaisesRegex(ValueError, "a known text, got 'é'"):
      read.vocabulary(DIRECTORY).encode('é')


class TfdsTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_tfds_files_give_the_same_records(self, lazy):
    """Its speech is numbers, or FLAC in its 'lazy_decode' form."""
    folder = self.create_tempdir().full_path
    with open(os.path.join(folder, 'dataset_info.json'), 'w') as file:
      json.dump({'name': 'librispeech'}, file)
    for name, own in (
      ('train-clean-100', 'train_clean100'),
      ('train-clean-360', 'train_clean360'),
      ('train-other-500', 'train_other500'),
      ('dev-clean', 'dev_clean'),
    ):
      records = []
      for number in range(9):
        sound, text = fake_speech.utterance(name, number)
        example = tf_example_pb2.Example()
        features = example.features.feature
        flac = tiny.flac(sound)
        if lazy:
          features['speech'].bytes_list.value.append(flac)
        else:
          samples, _ = soundfile.read(io.BytesIO(flac), dtype='int16')
          features['speech'].int64_list.value.extend(samples.tolist())
        features['text'].bytes_list.value.append(text.encode())
        features['id'].bytes_list.value.append(b'7-0-%04d' % number)
        records.append(example.SerializeToString())
      path = os.path.join(folder, f'librispeech-{own}.tfrecord-00000-of-00001')
      with open(path, 'wb') as file:
        file.write(b''.join(map(fake_tfds.frame, records)))
    directory = prepare.build(
      recipe.Order(self.create_tempdir().full_path, folder),
      size=fake_speech.PIECES,
    )
    found = _all(directory, read.EVAL)
    for number, (key, _, text, _, sound) in enumerate(found):
      expected, said = fake_speech.utterance('dev-clean', number)
      self.assertEqual((key, text), (f'7-0-{number:04d}', said.lower()))
      np.testing.assert_allclose(sound, expected, atol=2**-15)
    self.assertLen(_all(directory, read.TRAIN), 27)


class VerifyTest(parameterized.TestCase):
  def verify(self, directory=None, **how):
    counts = {
      read.TRAIN: sum(fake_speech.COUNTS[name] for name in SETS),
      read.EVAL: fake_speech.COUNTS['dev-clean'],
    }
    how = {
      'splits': counts, 'vocabulary_size': fake_speech.PIECES, **how
    }  # fmt: skip
    read.verify(directory or DIRECTORY, **how)

  def test_what_is_whole_passes(self):
    self.verify()
    for split in read.SPLITS:
      records = dataset.Split(DIRECTORY, split)
      prepare.check(records[0])

  def test_another_vocabulary_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected 1023 pieces'):
      self.verify(vocabulary_size=1023)

  @parameterized.parameters(
    (read.VOCABULARY, 'Expected pieces.model'),
    (read.LENGTHS.format('train'), 'the lengths of utterances in'),
  )
  def test_a_file_that_lacks_is_named(self, name, message):
    folder = os.path.join(self.create_tempdir().full_path, 'copy')
    shutil.copytree(DIRECTORY, folder)
    os.remove(os.path.join(folder, name))
    os.remove(os.path.join(folder, 'manifest.json'))
    with self.assertRaisesRegex(ValueError, message):
      self.verify(folder)


class PiecesTest(absltest.TestCase):
  def test_too_few_texts_for_a_vocabulary_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'texts with 500 pieces, got'):
      pieces.learn(['a b', 'b a'], 500)

  def test_what_is_no_model_is_refused(self):
    path = self.create_tempfile(content='no model').full_path
    with self.assertRaisesRegex(ValueError, 'a vocabulary in'):
      pieces.read(path)


if __name__ == '__main__':
  absltest.main()
