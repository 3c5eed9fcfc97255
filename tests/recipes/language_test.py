"""The language of mask recipes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsar_jax.errors import UserError
from zsar_jax.recipes.language import EFFECTS, FILLS, LAYERS, Effect, Part, Recipe, parse


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
      (Part('object_box', 'uniform', draw='frame', probability=0.25, over_people=True),),
    ),
    ('background=normal/other', (Part('background', 'normal', draw='other'),)),
    ('background=swap@0.5', (Part('background', 'swap', probability=0.5),)),
    ('person=inpaint@0.5', (Part('person', 'inpaint', probability=0.5),)),
  ],
)
def test_parses(text, parts):
  assert parse(text) == Recipe(parts)


def test_effects_stand_in_the_order_in_which_they_are_applied():
  recipe = parse('freeze, background=stripes, fame@0.5, be')
  assert recipe == Recipe(
    (Part('background', 'stripes'),), (Effect('be'), Effect('fame', 0.5), Effect('freeze'))
  )
  assert str(recipe) == 'be,fame@0.5,background=stripes,freeze'
  assert str(parse('freeze,shuffle@0.5,reverse,be,background=swap')) == (
    'be,background=swap,reverse,shuffle@0.5,freeze'
  )


@pytest.mark.parametrize(
  ('text', 'regions', 'pairs'),
  [
    ('background=normal,freeze', {'background'}, False),
    ('shuffle,reverse', set(), False),
    ('background=swap', {'background'}, True),
    ('actorcutmix', {'person'}, True),
    ('fame,object=mean', {'object'}, True),
    ('stillmix', set(), True),
    ('stillmix_bank,be', set(), False),
  ],
)
def test_what_a_recipe_needs(text, regions, pairs):
  assert parse(text).regions == regions
  assert parse(text).needs_partner is pairs


def test_the_part_that_inpaints():
  recipe = parse('background=normal,person=inpaint')
  assert recipe.inpaint_part == Part('person', 'inpaint')
  assert recipe.regions == {'background', 'person'}
  assert not recipe.needs_partner
  assert parse('background=normal,person=mean').inpaint_part is None


@pytest.mark.parametrize(
  'text',
  [
    'none',
    'background=normal',
    'background=mean,object_box=normal/frame@0.5!',
    'person=#102030',
    'actorcutmix@0.25,background=stripes/other,freeze',
    'stillmix@0.5,background=swap,person=inpaint@0.25',
  ],
)
def test_text_survives_the_round_trip(text):
  assert str(parse(text)) == text


@pytest.mark.parametrize(
  ('text', 'position', 'phrase'),
  [
    ('', 'character 1', 'REGION=COLOR'),
    ('background', 'character 1', 'REGION=COLOR'),
    ('backgruond=normal', 'character 1', 'regions are'),
    ('background=normal,object=nrmal', 'character 26', 'colors are'),
    ('background=#12345', 'character 12', '#rrggbb'),
    ('background=normal,background=mean', 'character 19', 'twice'),
    ('background=normal/clip', 'character 18', '/frame'),
    ('background=mean/frame', 'character 16', '/frame'),
    ('background=normal@1.5', 'character 18', 'probability'),
    ('background=normal@nan', 'character 18', 'probability'),
    ('background=normal@', 'character 18', 'probability'),
    ('background=normal!', 'character 18', 'object_box'),
    ('background=normal,none', 'character 19', 'REGION=COLOR'),
    ('person=swap', 'character 8', 'only the background'),
    ('background=swap/other', 'character 16', '/other'),
    ('background=inpaint', 'character 12', 'only person'),
    ('object=inpaint', 'character 8', 'only person'),
    ('person_box=inpaint', 'character 12', 'only person'),
    ('person=inpaint/frame', 'character 15', '/frame'),
    ('person=inpaint!', 'character 15', 'object_box'),
    ('fame,person=inpaint', 'character 6', 'together with fame'),
    ('person=inpaint,actorcutmix@0.5', 'character 16', 'together with actorcutmix'),
    ('fame@2', 'character 5', 'probability'),
    ('fame,fame', 'character 6', 'twice'),
    ('freeze!', 'character 1', 'freeze'),
    ('object=normal!@0.5', 'character 1', 'REGION=COLOR'),
  ],
)
def test_errors_show_the_position(text, position, phrase):
  with pytest.raises(UserError) as error:
    parse(text, 'config.recipe')
  message = str(error.value)
  assert message.startswith('config.recipe: ')
  assert position in message
  assert phrase in message


_PROBABILITIES = st.just('') | st.floats().map(lambda share: f'@{share!r}') | st.just('@x')
_PIECES = st.tuples(
  st.sampled_from([f'{name}=' for name in LAYERS] + list(EFFECTS)),
  st.sampled_from(['', *FILLS, '#12aBcd', '#12']),
  st.sampled_from(['', '/frame', '/other', '/', ' ']),
  _PROBABILITIES,
  st.sampled_from(['', '!', '!!']),
).map(''.join)


@settings(deadline=None)
@given(st.text() | st.lists(_PIECES, max_size=4).map(','.join))
def test_any_text_is_parsed_or_refused(text):
  """A parsed recipe has a text that parses to the same recipe, to the last digit."""
  try:
    recipe = parse(text)
  except UserError:
    return
  assert parse(str(recipe)) == recipe
