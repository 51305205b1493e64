"""Tests of subwords; golden numbers are the reference's own code's."""

import hashlib
import pickle
from unittest import mock

from absl.testing import absltest, parameterized
import hypothesis
from hypothesis import strategies

from input_pipelines.text import subwords

_TEXT = [
  'the dog sees the small dogs, and the cats see the dogs',
  'der Hund sieht die kleinen Hunde, und die Katzen sehen die Hunde',
  'no_one has seen 3.5 dogs (in 1997); niemand hat 3,5 Hunde gesehen',
  'the seen and the unseen, das Sehen und das Ungesehene',
]

_VOCABULARY = subwords.build(subwords.count(_TEXT), size=0, min_count=2)


class VocabularyTest(parameterized.TestCase):
  @parameterized.parameters(
    ('the unseen dogs', [3, 16, 4, 6, 11]),
    (' a  b ', [34, 2, 57, 2, 34, 34, 2, 41, 31, 62, 46, 2, 34, 2]),
    (
      'no_one\\n \\195; ',
      [
        4,
        9,
        2,
        41,
        16,
        2,
        9,
        4,
        26,
        41,
        41,
        2,
        4,
        2,
        34,
        41,
        41,
        2,
        48,
        31,
        32,
        46,
        34,
        2,
      ],
    ),
    ('the\nend', [3, 41, 48, 68, 46, 2, 27, 4, 13, 2]),
    ('', []),
  )
  def test_texts_have_the_numbers_that_the_reference_gives(self, text, numbers):
    self.assertEqual(_VOCABULARY.encode(text), numbers)
    self.assertEqual(_VOCABULARY.decode(numbers), text)

  @hypothesis.given(strategies.text())
  @hypothesis.settings(max_examples=300, deadline=None)
  def test_what_is_encoded_decodes_to_itself(self, text):
    self.assertEqual(_VOCABULARY.decode(_VOCABULARY.encode(text)), text)

  @hypothesis.given(strategies.text('ab1_\\u; .,\n'))
  @hypothesis.settings(max_examples=300, deadline=None)
  def test_so_does_what_looks_like_an_escape(self, text):
    self.assertEqual(_VOCABULARY.decode(_VOCABULARY.encode(text)), text)

  def test_the_longest_subword_is_taken(self):
    names = [_VOCABULARY.subwords[n] for n in _VOCABULARY.encode('gesehen see')]
    self.assertEqual(names, ['gesehen', '_', 'see', '_'])

  def test_numbers_past_the_end_are_left_out(self):
    self.assertEqual(_VOCABULARY.decode([5, 999, 9]), 'und o')

  def test_a_sentence_ends_before_the_first_eos(self):
    self.assertEqual(_VOCABULARY.sentence([3, 11, 1, 3, 0]), 'the dogs')
    self.assertEqual(_VOCABULARY.sentence([1]), '')

  def test_a_copy_in_another_process_knows_the_same(self):
    copy = pickle.loads(pickle.dumps(_VOCABULARY))
    self.assertEqual(copy.encode(_TEXT[0]), _VOCABULARY.encode(_TEXT[0]))

  def test_what_is_remembered_is_bounded(self):
    vocabulary = subwords.Vocabulary(_VOCABULARY.subwords)
    with mock.patch.object(subwords, '_MOST_KEPT', 3):
      for text in _TEXT:
        vocabulary.encode(text)
        self.assertLessEqual(len(vocabulary._kept), 3)


class BuildTest(parameterized.TestCase):
  @parameterized.parameters((2, 69, '6262b4a6ebcb7402'),
                            (3, 62, '4a873a86b73b00b5'))  # fmt: skip
  def test_the_vocabulary_is_the_references(self, min_count, size, digest):
    found = subwords.build(
      subwords.count(_TEXT), size=1000, min_count=min_count
    )
    self.assertLen(found, size)
    joined = '\n'.join(found.subwords).encode()
    self.assertEqual(hashlib.sha256(joined).hexdigest()[:16], digest)

  def test_a_search_comes_near_the_size(self):
    counts = subwords.count(_TEXT * 30)
    seen = []
    for min_count in (30, 60, 90):
      known = subwords.build(counts, size=0, min_count=min_count)
      found = subwords.build(
        counts, size=len(known), progress=lambda *a: seen.append(a)
      )
      self.assertLen(found, len(known))
      self.assertEqual(seen[-1][0], seen[-1][1])
    all_of_it = subwords.build(counts, size=0, min_count=1)
    self.assertEqual(
      subwords.build(counts, size=10**6).subwords, all_of_it.subwords
    )

  def test_no_text_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected a text'):
      subwords.build({}, size=10)


class ReadTest(parameterized.TestCase):
  def read(self, text):
    path = self.create_tempfile(content=text).full_path
    return subwords.read(path)

  def test_a_line_is_a_number_and_is_written_again_as_it_was(self):
    vocabulary = self.read(_VOCABULARY.text())
    self.assertEqual(vocabulary.subwords, _VOCABULARY.subwords)

  def test_reserved_lines_of_the_other_form_shift_nothing(self):
    lines = _VOCABULARY.text().split('\n')
    lines[:2] = ["'<pad>_'", "'<EOS>_'"]
    vocabulary = self.read('\n'.join(lines))
    self.assertLen(vocabulary, len(_VOCABULARY))
    self.assertEqual(vocabulary.encode(_TEXT[1]), _VOCABULARY.encode(_TEXT[1]))

  @parameterized.parameters(
    ("'<pad>'\n<EOS>\n", "'<EOS>' in line 2"),
    ("'a'\n'b'\n", "as the first two of the vocabulary.*'a', 'b'"),
    ("'<pad>'\n'<EOS>'\n'a'\n'a'\n", "once, got 'a' again"),
    ("'<pad>'\n'<EOS>'\n'ab_'\n", 'subword of its own'),
  )
  def test_what_is_no_vocabulary_is_told(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      self.read(text)


if __name__ == '__main__':
  absltest.main()
