"""How class names read in prompts."""

import pathlib
import re

import pytest

from zsar_jax.errors import UserError
from zsar_jax.text.phrasing import render

_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'

needs_labels = pytest.mark.skipif(
  not (_SHARED / 'labels').exists(), reason='no ../shared/data/labels'
)


def labels(name):
  return (_SHARED / 'labels' / f'{name}.txt').read_text().splitlines()


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('ApplyEyeMakeup', 'Apply Eye Makeup'),
    ('brush_hair', 'brush hair'),
    ('YoYo', 'Yo Yo'),
    ('BMXRiding', 'BMX Riding'),
    ('HandstandPushups', 'Handstand Pushups'),
    ('Race4Fun', 'Race4 Fun'),
    ('archery', 'archery'),
    ('TV', 'TV'),
    ('passing American football (in game)', 'passing American football (in game)'),
    ('playing_an iPad', 'playing an iPad'),
    ('draw_aSword', 'draw a Sword'),
  ],
)
def test_words(name, expected):
  assert render([name], split_words=True, placeholders='keep') == [expected]
  assert render([name], split_words=False, placeholders='keep') == [name]


@pytest.mark.parametrize(
  ('text', 'kept', 'dropped'),
  [
    ('Picking [something] up', 'Picking something up', 'Picking up'),
    ('Pushing [something]', 'Pushing something', 'Pushing'),
    (
      'Putting [something], [something] and [something] on the table',
      'Putting something, something and something on the table',
      'Putting, and on the table',
    ),
    (
      '[Something] falling like [a feather or paper]',
      'Something falling like a feather or paper',
      'falling like',
    ),
    ('Closing something', 'Closing something', 'Closing something'),
  ],
)
def test_placeholders(text, kept, dropped):
  assert render([text], split_words=True, placeholders='keep') == [kept]
  assert render([text], split_words=True, placeholders='drop') == [dropped]


def test_classes_with_the_same_text_are_refused():
  with pytest.raises(UserError, match=r"'YoYo' and 'yo_yo' both read 'yo yo'.*split_words"):
    render(['YoYo', 'walk', 'yo_yo'], split_words=True, placeholders='keep')
  assert len(render(['YoYo', 'yo_yo'], split_words=False, placeholders='keep')) == 2
  pair = ['Moving [something] up', 'Moving up']
  with pytest.raises(UserError, match=r"both read 'Moving up'.*placeholders"):
    render(pair, split_words=True, placeholders='drop')
  with pytest.raises(UserError, match=r"nothing is left of the class '\[something\]'.*'keep'"):
    render(['[something]'], split_words=True, placeholders='drop')


@needs_labels
def test_published_vocabularies():
  ucf, hmdb = labels('ucf101'), labels('hmdb51')
  rendered = render(ucf, split_words=True, placeholders='keep')
  for name, words in zip(ucf, rendered, strict=True):
    assert words.replace(' ', '') == name
    assert all(word[0].isupper() for word in words.split())
    assert sum(letter.isupper() for letter in name) == len(words.split())
  assert rendered[ucf.index('CleanAndJerk')] == 'Clean And Jerk'
  rendered = render(hmdb, split_words=True, placeholders='keep')
  assert ['_'.join(words.split()) for words in rendered] == hmdb
  for name in ('k400', 'k600', 'ssv2'):
    assert render(labels(name), split_words=True, placeholders='drop') == labels(name)


@needs_labels
def test_templates_of_something_something_without_placeholders():
  """Every template differs from the others without its objects."""
  templates = [re.sub(r'\b[Ss]omething\b', r'[\g<0>]', name) for name in labels('ssv2')]
  assert sum('[' in template for template in templates) > 160
  for placeholders in ('keep', 'drop'):
    for text in render(templates, split_words=True, placeholders=placeholders):
      assert '[' not in text
      assert text == ' '.join(text.split())
