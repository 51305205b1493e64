"""Articles of a MediaWiki dump, as paragraphs of sentences."""

from collections.abc import Iterator
import dataclasses
import html
import re
from typing import BinaryIO
from xml.etree import ElementTree

_LEAST_LINE, _LEAST_SENTENCE, _LEAST_ARTICLE = (
  60,
  20,
  8,
)  # characters, sentences
_END = re.compile(
  r'=+\s*(See also|References|External links|Further reading|Notes|'
  r'Bibliography|Sources|Footnotes|Citations)'
)
# What is left out, as often as it nests.
_MARKUP = tuple(
  (re.compile(pattern, re.DOTALL), by, times)
  for pattern, by, times in (
    (r'<!--.*?-->', '', 1),
    (r'<ref[^>/]*/>', '', 1),
    (r'<ref.*?</ref>', '', 1),
    (r'<(math|gallery|source|code|timeline|score|imagemap|syntaxhighlight)'
     r'.*?</\1>', '', 1),
    (r'\{\{[^{}]*\}\}', '', 6),
    (r'\{\|(?:(?!\{\|).)*?\|\}', '', 4),
    (r'\[\[(?:File|Image|Category|[a-z-]{2,12}):'
     r'[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]', '', 3),
    (r'\[\[(?:[^|\]]*\|)?([^\]]*)\]\]', r'\1', 1),
    (r'\[https?://\S+ ?([^\]]*)\]', r'\1', 1),
    (r'<[^>]+>', '', 1),
    (r"'{2,}", '', 1),
  )
)  # fmt: skip
_BETWEEN = re.compile(r'(?<=[.!?])["\')]*\s+(?=[A-Z"\'(])')


@dataclasses.dataclass(frozen=True)
class Article:
  """A title and paragraphs of sentences; redirects and stubs are none."""

  title: str
  paragraphs: tuple[tuple[str, ...], ...]

  @property
  def sentences(self) -> int:
    """Their number."""
    return sum(map(len, self.paragraphs))


def articles(file: BinaryIO) -> Iterator[Article]:
  """The articles of a dump, whose pages are read one by one.

  A dump that ends within a page, as an excerpt does, ends with the page before.
  """
  pages = ElementTree.iterparse(file, events=('start', 'end'))
  _, root = next(pages)
  try:
    for event, element in pages:
      if event == 'end' and _name(element) == 'page':
        found = _article(element)
        if found:
          yield found
        root.clear()
  except ElementTree.ParseError:
    return


def plain(text: str) -> list[str]:
  """The paragraphs of an article without markup, up to its references."""
  for pattern, by, times in _MARKUP:
    for _ in range(times):
      text = pattern.sub(by, text)
  paragraphs = []
  for line in map(str.strip, text.split('\n')):
    if line.startswith('=='):
      if _END.match(line):
        break
    elif len(line) >= _LEAST_LINE and line[0] not in '*#:;|{}!':
      paragraphs.append(html.unescape(line).replace('\xa0', ' '))
  return paragraphs


def sentences(paragraph: str) -> list[str]:
  """Parts of a paragraph between a full stop and a capital letter."""
  parts = _BETWEEN.split(paragraph)
  return [part for part in parts if len(part) > _LEAST_SENTENCE]


def _article(page: ElementTree.Element) -> Article | None:
  fields = {_name(each): each.text or '' for each in page.iter()}
  if fields.get('ns') != '0' or 'redirect' in fields:
    return None
  parts = [tuple(sentences(part)) for part in plain(fields['text'])]
  found = Article(fields['title'], tuple(filter(None, parts)))
  return found if found.sentences >= _LEAST_ARTICLE else None


def _name(element: ElementTree.Element) -> str:
  return element.tag.rpartition('}')[2]
