"""The words of the generated phrases, in English and in German."""

from collections.abc import Sequence
import dataclasses

# Nominative, accusative and dative; masculine, feminine, neuter and plural.
THE = {
  'm': ('der', 'den', 'dem'),
  'f': ('die', 'die', 'der'),
  'n': ('das', 'das', 'dem'),
  'p': ('die', 'die', 'den'),
}
A = {
  'm': ('ein', 'einen', 'einem'),
  'f': ('eine', 'eine', 'einer'),
  'n': ('ein', 'ein', 'einem'),
}
# Endings of adjectives after 'the' and after 'a'.
AFTER_THE = {
  'm': ('e', 'en', 'en'),
  'f': ('e', 'e', 'en'),
  'n': ('e', 'e', 'en'),
  'p': ('en', 'en', 'en'),
}
AFTER_A = {
  'm': ('er', 'en', 'en'),
  'f': ('e', 'e', 'en'),
  'n': ('es', 'es', 'en'),
}


@dataclasses.dataclass(frozen=True)
class Noun:
  """A noun in both languages, singular and plural."""

  english: str
  many: str
  german: str
  viele: str
  gender: str  # m, f, n


@dataclasses.dataclass(frozen=True)
class Verb:
  """A verb: she sees, they see, she has seen, in both languages."""

  sees: str
  see: str
  seen: str
  sieht: str
  sehen: str
  gesehen: str


@dataclasses.dataclass(frozen=True)
class Phrase:
  """A part of a sentence in both languages."""

  english: str
  german: str
  plural: bool = False


@dataclasses.dataclass(frozen=True)
class Scene:
  """Setting of a sentence: it decides the meaning of ambiguous words."""

  places: Sequence[Phrase]
  meanings: Sequence[Noun]


def _nouns(table: str) -> tuple[Noun, ...]:
  """Lines of: English singular, plural, German singular, plural, gender."""
  return tuple(Noun(*line.split()) for line in table.strip().splitlines())


def _verbs(table: str) -> tuple[Verb, ...]:
  return tuple(Verb(*line.split()) for line in table.strip().splitlines())


def _phrases(**table: str) -> tuple[Phrase, ...]:
  """English, with '_' for spaces, and German."""
  return tuple(Phrase(e.replace('_', ' '), g) for e, g in table.items())


PERSONS = _nouns("""
man men Mann Männer m
woman women Frau Frauen f
child children Kind Kinder n
teacher teachers Lehrer Lehrer m
girl girls Mädchen Mädchen n
sister sisters Schwester Schwestern f
brother brothers Bruder Brüder m
doctor doctors Arzt Ärzte m
queen queens Königin Königinnen f
guest guests Gast Gäste m
aunt aunts Tante Tanten f
baby babies Baby Babys n
""")

THINGS = _nouns("""
dog dogs Hund Hunde m
cat cats Katze Katzen f
horse horses Pferd Pferde n
book books Buch Bücher n
table tables Tisch Tische m
lamp lamps Lampe Lampen f
apple apples Apfel Äpfel m
key keys Schlüssel Schlüssel m
flower flowers Blume Blumen f
picture pictures Bild Bilder n
ball balls Ball Bälle m
clock clocks Uhr Uhren f
shirt shirts Hemd Hemden n
coat coats Mantel Mäntel m
bag bags Tasche Taschen f
egg eggs Ei Eier n
""")

# The first part of a compound, as it stands in it.
FIRST = {
  'garden': 'Garten',
  'kitchen': 'Küchen',
  'winter': 'Winter',
  'sun': 'Sonnen',
  'street': 'Straßen',
  'bird': 'Vogel',
  'house': 'Haus',
  'paper': 'Papier',
  'stone': 'Stein',
  'hand': 'Hand',
  'night': 'Nacht',
  'water': 'Wasser',
}

SECOND = _nouns("""
door doors Tür Türen f
wall walls Wand Wände f
roof roofs Dach Dächer n
bed beds Bett Betten n
chair chairs Stuhl Stühle m
box boxes Kiste Kisten f
car cars Wagen Wagen m
wheel wheels Rad Räder n
cloth cloths Tuch Tücher n
game games Spiel Spiele n
shoe shoes Schuh Schuhe m
pump pumps Pumpe Pumpen f
""")

ADJECTIVES = {
  'old': 'alt',
  'small': 'klein',
  'new': 'neu',
  'red': 'rot',
  'beautiful': 'schön',
  'quiet': 'still',
  'strange': 'fremd',
  'young': 'jung',
  'green': 'grün',
  'poor': 'arm',
}

DOING = _verbs("""
sees see seen sieht sehen gesehen
finds find found findet finden gefunden
buys buy bought kauft kaufen gekauft
loves love loved liebt lieben geliebt
paints paint painted malt malen gemalt
looks_for look_for looked_for sucht suchen gesucht
carries carry carried trägt tragen getragen
needs need needed braucht brauchen gebraucht
hears hear heard hört hören gehört
forgets forget forgotten vergisst vergessen vergessen
""")

# Their object is in the dative.
HELPING = _verbs("""
helps help helped hilft helfen geholfen
thanks thank thanked dankt danken gedankt
trusts trust trusted vertraut vertrauen vertraut
""")

GIVING = _verbs("""
gives give given gibt geben gegeben
shows show shown zeigt zeigen gezeigt
brings bring brought bringt bringen gebracht
sells sell sold verkauft verkaufen verkauft
""")

THINKING = _verbs("""
knows know known weiß wissen gewusst
says say said sagt sagen gesagt
believes believe believed glaubt glauben geglaubt
hopes hope hoped hofft hoffen gehofft
""")

WHEN = _phrases(
  today='heute', often='oft', now='jetzt', sometimes='manchmal', again='wieder'
)
LINKS = _phrases(because='weil', when='wenn', although='obwohl')

# The same English words in both; 'bank' and others are meant in these ways.
SCENES = (
  Scene(
    _phrases(
      in_the_forest='im Wald',
      at_the_lake='am See',
      on_the_mountain='auf dem Berg',
      in_the_valley='im Tal',
    ),
    _nouns("""
bank banks Ufer Ufer n
crane cranes Kranich Kraniche m
seal seals Robbe Robben f
trunk trunks Stamm Stämme m
spring springs Quelle Quellen f
bat bats Fledermaus Fledermäuse f
"""),
  ),
  Scene(
    _phrases(
      in_the_city='in der Stadt',
      at_the_station='am Bahnhof',
      in_the_factory='in der Fabrik',
      at_the_market='auf dem Markt',
    ),
    _nouns("""
bank banks Bank Banken f
crane cranes Kran Kräne m
seal seals Siegel Siegel n
trunk trunks Koffer Koffer m
spring springs Feder Federn f
bat bats Schläger Schläger m
"""),
  ),
)
