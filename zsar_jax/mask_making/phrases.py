"""The phrases that detectors look for: words of the user, or the nouns of a clip's label.

A phrase consists of letters, digits, hyphens, apostrophes and single spaces, in lower case. Other
characters have a meaning to some detectors: Grounding DINO's prompts end each phrase with a period.
"""

import os
import re

from zsar_jax.data.class_names import split_words, to_nfc
from zsar_jax.datasets.sources import ssv2
from zsar_jax.errors import UserError

# The value of --words that stands for the placeholders of Something-Something v2.
PLACEHOLDERS = 'placeholders'

# What detectors look for in a clip of which nothing is known: nearly every clip of
# Something-Something v2 shows a hand, and hands count as persons there.
HAND = {'hand': 'person'}

_REGIONS = ('person', 'object')

# A phrase that ends with such a word, and names no region, is a person.
_PERSON_WORDS = frozenset(
  split_words(
    'person people human humans man men woman women child children boy boys girl girls'
    ' hand hands finger fingers arm arms'
  )
)

# Words without a thing: 'nothing', 'one of them', 'two'. A phrase of such words alone is left out,
# and those at its start are, because 'a', 'my' and '3' make no difference to what is detected.
_EMPTY_WORDS = frozenset(
  split_words(
    'a an the some any no one two three four five six seven eight nine ten few several many'
    ' multiple both all another other this that these those my your his her its their our of it'
    ' them something somewhere someone anything nothing none everything number unknown'
  )
)

# The longest phrase, in words and in characters, and the most phrases for a clip. The text towers
# of OWLv2 and SAM 3 read 16 and 32 tokens, and a longer phrase is no noun.
_MAX_WORDS = 8
_MAX_CHARACTERS = 64
_MAX_PHRASES = 100


def parse_words(text: str) -> dict[str, str]:
  """Parses the words to look for.

  Args:
    text: phrases such as 'person:person/cup:object'. A phrase without a region is a person if its
      last word is a word for people or hands, otherwise an object.

  Returns:
    {phrase: 'person' or 'object'}.

  Raises:
    UserError: a phrase is empty or too long, a region is unknown, or a phrase has two regions.
  """
  phrases: dict[str, str] = {}
  for part in text.split('/'):
    words, colon, region = part.partition(':')
    phrase = _spaced(words)
    if not phrase:
      raise UserError(f'--words: {part!r} has no word; give phrases such as person/cup:object')
    if len(phrase.split()) > _MAX_WORDS or len(phrase) > _MAX_CHARACTERS:
      raise UserError(
        f'--words: {phrase[:_MAX_CHARACTERS]!r} is too long; give phrases of at most'
        f' {_MAX_WORDS} words and {_MAX_CHARACTERS} characters'
      )
    region = region.strip() if colon else _region(phrase)
    if region not in _REGIONS:
      raise UserError(f'--words: region {region!r} of {part!r} must be person or object')
    if phrases.setdefault(phrase, region) != region:
      raise UserError(f'--words: {phrase!r} has two regions; give one of them')
  if len(phrases) > _MAX_PHRASES:
    raise UserError(f'--words: {len(phrases)} phrases; give at most {_MAX_PHRASES}')
  return phrases


def drawn_regions(words: str) -> tuple[str, ...]:
  """Returns the regions that masks of these words have: 'person', 'object' or both.

  Args:
    words: the value of --words, 'placeholders' or phrases.

  Raises:
    UserError: see `parse_words`.
  """
  if words == PLACEHOLDERS:
    return _REGIONS
  regions = parse_words(words).values()
  return tuple(region for region in _REGIONS if region in regions)


def read_placeholders(annotations: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
  """Reads the nouns of the clips of Something-Something v2.

  Args:
    annotations: the folder of the data set's three JSON files.

  Returns:
    {clip id: {phrase: 'person' or 'object'}} of the clips that are listed. 'hand' is among the
    phrases of each, and the only one if none of its placeholders is a thing. A clip that is not
    listed, as those of the test split are not, has the phrases `HAND`.

  Raises:
    UserError: a file is missing or wrong.
  """
  return {
    clip: placeholder_phrases(texts) for clip, texts in ssv2.read_placeholders(annotations).items()
  }


def placeholder_phrases(placeholders: tuple[str, ...]) -> dict[str, str]:
  """Returns {phrase: 'person' or 'object'} for the placeholders of a clip, with 'hand'.

  Args:
    placeholders: texts as people typed them, such as '2 Cups', 'a box (of tea)', '[something]' or
      'nothing'.
  """
  phrases = dict(HAND)
  for placeholder in placeholders[:_MAX_PHRASES]:
    if phrase := _noun(placeholder):
      phrases.setdefault(phrase, _region(phrase))
  return phrases


def _noun(placeholder: str) -> str:
  """Returns the phrase for a placeholder, or '' if it names no thing."""
  # Remarks in parentheses, and brackets that nobody filled in. The slice bounds the time.
  text = re.sub(r'\([^()]*\)|\[[^][]*\]', ' ', placeholder[: 4 * _MAX_CHARACTERS])
  words = _spaced(text).split()
  while words and (words[0] in _EMPTY_WORDS or words[0].isnumeric()):
    del words[0]
  while len(words) > _MAX_WORDS or len(' '.join(words)) > _MAX_CHARACTERS:
    del words[-1]
  return ' '.join(words)


def _spaced(text: str) -> str:
  """Returns a text in lower case with the characters of phrases alone."""
  kept = re.sub(r"[^\w'-]|_", ' ', to_nfc(text).lower())
  # A hyphen or an apostrophe joins letters; alone it is punctuation.
  return ' '.join(filter(None, (word.strip("'-") for word in kept.split())))


def _region(phrase: str) -> str:
  return 'person' if phrase.split()[-1] in _PERSON_WORDS else 'object'
