"""The language of mask recipes."""

import pytest

from zsar_jax.errors import UserError
from zsar_jax.ops.recipes import Part, Recipe, parse


@pytest.mark.parametrize(
  ('text', 'parts'),
  [
    ('none', ()),
    (' background = normal ', (Part('background', 'normal'),)),
    (
      'object=normal,background=normal',
      (Part('background', 'normal'), Part('object', 'normal')),
    ),
    (
      'background=mean,person=black',
      (Part('background', 'mean'), Part('person', 'black')),
    ),
    ('person_box=#00FF7f', (Part('person_box', '#00ff7f'),)),
    (
      'object_box=uniform/frame@0.25!',
      (Part('object_box', 'uniform', per_frame=True, probability=0.25, whole=True),),
    ),
  ],
)
def test_parses(text, parts):
  assert parse(text) == Recipe(parts)


@pytest.mark.parametrize(
  'text',
  ['none', 'background=normal', 'background=mean,object_box=normal/frame@0.5!', 'person=#102030'],
)
def test_text_survives_the_round_trip(text):
  assert str(parse(text)) == text


@pytest.mark.parametrize(
  ('text', 'place', 'word'),
  [
    ('', 'character 1', 'REGION=COLOUR'),
    ('background', 'character 1', 'REGION=COLOUR'),
    ('backgruond=normal', 'character 1', 'regions are'),
    ('background=normal,object=nrmal', 'character 26', 'colours are'),
    ('background=#12345', 'character 12', '#rrggbb'),
    ('background=normal,background=mean', 'character 19', 'twice'),
    ('background=normal/clip', 'character 18', '/frame'),
    ('background=mean/frame', 'character 16', '/frame'),
    ('background=normal@1.5', 'character 18', 'probability'),
    ('background=normal@nan', 'character 18', 'probability'),
    ('background=normal@', 'character 18', 'probability'),
    ('background=normal!', 'character 18', 'object_box'),
    ('background=normal,none', 'character 19', 'REGION=COLOUR'),
    ('object=normal!@0.5', 'character 1', 'REGION=COLOUR'),
  ],
)
def test_errors_show_the_place(text, place, word):
  with pytest.raises(UserError) as error:
    parse(text, 'config.recipe')
  message = str(error.value)
  assert message.startswith('config.recipe: ')
  assert place in message
  assert word in message
