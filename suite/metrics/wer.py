"""Word error rate, by RapidFuzz's edit distance."""

from rapidfuzz.distance import Levenshtein


def count(reference: str, heard: str) -> tuple[int, int]:
  """Words to insert, delete or exchange, and words of the reference.

  Words are what white space divides, letters as they are.
  """
  expected = reference.split()
  return Levenshtein.distance(expected, heard.split()), len(expected)
