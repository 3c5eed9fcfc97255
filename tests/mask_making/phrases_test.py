"""Tests of zsar_jax.mask_making.phrases."""

import json
import pathlib

import pytest

from zsar_jax.errors import UserError
from zsar_jax.mask_making.phrases import (
  HAND,
  drawn_regions,
  parse_words,
  placeholder_phrases,
  read_placeholders,
)

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'ssv2' / 'annotations'


def test_words_have_regions_as_given_or_by_their_last_word():
  assert parse_words('Person/ Tea  cup :object/left hand/hand cream') == {
    'person': 'person',
    'tea cup': 'object',
    'left hand': 'person',
    'hand cream': 'object',
  }
  assert parse_words('mannequin:person') == {'mannequin': 'person'}


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ('', "'' has no word"),
    ('cup//hand', "'' has no word"),
    ('.:object', "'.:object' has no word"),
    ('cup:tool', "region 'tool' of 'cup:tool' must be person or object"),
    ('cup:', "region '' of 'cup:' must be person or object"),
    ('cup/Cup:person', "'cup' has two regions"),
    ('a b c d e f g h i', 'at most 8 words'),
    ('x' * 65, 'at most 8 words and 64 characters'),
    ('/'.join(f'cup {number}' for number in range(101)), '101 phrases; give at most 100'),
  ],
)
def test_wrong_words_are_named(words, message):
  with pytest.raises(UserError) as error:
    parse_words(words)
  assert str(error.value).startswith('--words: ')
  assert message in str(error.value)


def test_regions_of_words():
  assert drawn_regions('placeholders') == ('person', 'object')
  assert drawn_regions('cup/man') == ('person', 'object')
  assert drawn_regions('cup/plate') == ('object',)


@pytest.mark.parametrize(
  ('placeholder', 'phrase'),
  [
    ('a potato', 'potato'),
    ('2 cups', 'cups'),
    ('A Box (of tea)', 'box'),
    ('one of my books', 'books'),
    ("the dog's bowl", "dog's bowl"),
    ('vicks vaporub bottle.', 'vicks vaporub bottle'),
    ('t-shirt', 't-shirt'),
    ('pen, pencil', 'pen pencil'),
    ('cafe\u0301', 'caf\u00e9'),
    ('snake_toy - red', 'snake toy red'),
    (' '.join(['long'] * 12), ' '.join(['long'] * 8)),
    ('x' * 100_000, None),
    ('[' * 100_000, None),
    ('one', None),
    ('3', None),
    ('nothing', None),
    ('[something]', None),
    ('none of them', None),
    ('- .', None),
    ('', None),
  ],
)
def test_placeholders_become_nouns(placeholder, phrase):
  expected = HAND if phrase is None else {'hand': 'person', phrase: 'object'}
  assert placeholder_phrases((placeholder,)) == expected


def test_parts_of_people_among_placeholders_are_persons():
  phrases = placeholder_phrases(('my finger', 'Hand', 'a ring'))
  assert phrases == {'hand': 'person', 'finger': 'person', 'ring': 'object'}


def test_reads_the_placeholders_of_both_lists(tmp_path):
  def write(split, *entries):
    entries = [{'template': 'Pushing [something]', **entry} for entry in entries]
    (tmp_path / f'{split}.json').write_text(json.dumps(entries))

  write('train', {'id': '1', 'placeholders': ['a comb', 'Box']}, {'id': '2', 'placeholders': []})
  write('validation', {'id': '3', 'placeholders': ['nothing']}, {'id': '4'})
  assert read_placeholders(tmp_path) == {
    '1': {'hand': 'person', 'comb': 'object', 'box': 'object'},
    '2': HAND,
    '3': HAND,
    '4': HAND,
  }
  for wrong in ('comb', ['comb', 1], {'comb': 1}):
    write('validation', {'id': '3', 'placeholders': wrong})
    with pytest.raises(UserError, match="entry 0: field 'placeholders' must be a list of strings"):
      read_placeholders(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is absent')
def test_reads_the_real_placeholders():
  phrases = read_placeholders(SHARED)
  assert phrases['57082'] == {'hand': 'person', 'comb': 'object', 'box': 'object'}
  assert phrases['3201'] == {'hand': 'person', 'wireless mouse': 'object'}
  assert set(phrases) == {'2', '57082', '80962', '77005', '3201', '862', '6981'}
