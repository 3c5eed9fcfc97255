"""Tests of zsar_jax.datasets.masks.spec."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.datasets.masks.mask_helpers import blob, clip, planes, video
from zsar_jax.datasets.masks import spec
from zsar_jax.datasets.masks.spec import FORMATS, open_masks
from zsar_jax.errors import UserError
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, REGION_BITS


@pytest.fixture(name='opened')
def _opened(monkeypatch):
  """Replaces the functions that open formats: each returns its path and options."""
  for name, chosen in FORMATS.items():
    fake = dataclasses.replace(chosen, open=lambda path, **options: (path, options))
    monkeypatch.setitem(spec.FORMATS, name, fake)


@pytest.mark.usefixtures('opened')
@pytest.mark.parametrize(
  ('text', 'path', 'options'),
  [
    ('grey:seg', 'seg', {}),
    ('grey:objects,region=object', 'objects', {'region': 'object'}),
    ('grey:a,b,C=d/e,first=0', 'a,b,C=d/e', {'first': 0}),
    (
      'grey:C:\\seg,first=auto,region=person_box',
      'C:\\seg',
      {'first': None, 'region': 'person_box'},
    ),
    ('grey:x,spread=yes', 'x', {'spread': True}),
    ('grey:x,stride=10', 'x', {'stride': (10, None)}),
    ('coco:x.json,stride=10+9', 'x.json', {'stride': (10, 9)}),
    ('yolo:x,spread=yes', 'x', {'spread': True}),
    (
      'palette:A,values=1:person/02:object/*:object_box',
      'A',
      {'values': {'1': PERSON, '2': OBJECT, '*': OBJECT_BOX}},
    ),
    (
      'coco:r.json,images=i.json,values=sports ball:object/1:person,score=0.25',
      'r.json',
      {'images': 'i.json', 'values': {'sports ball': OBJECT, '1': PERSON}, 'score': 0.25},
    ),
    ('yolo:labels,extra=2', 'labels', {'extra': 2}),
    ('yolo:labels,extra=auto', 'labels', {'extra': None}),
    ('arrays:masks', 'masks', {}),
  ],
)
def test_specs(text, path, options):
  assert open_masks(text) == (path, options)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('seg', "'seg' must be FORMAT:PATH with one of the formats grey, palette, egohos, coco"),
    ('gray:seg', 'must be FORMAT:PATH'),
    ('grey:', 'has no path'),
    ('grey:,first=0', 'has no path'),
    ('grey:x,color=red', "no option 'color'; its options are region, first, spread, stride"),
    ('grey:x,values=1:person', "grey has no option 'values'"),
    ('egohos:x,region=person', "egohos has no option 'region'"),
    ('coco:x,spread=yes', "coco has no option 'spread'"),
    ('arrays:x,first=0', "arrays has no option 'first'"),
    ('grey:x,first=0,first=1', "'first' of .* is given twice"),
    ('grey:x,first=2', 'first=2 must be one of auto, 0, 1'),
    ('grey:x,region=people', 'region=people must be one of person, object, person_box, object_box'),
    ('grey:x,spread=1', 'spread=1 must be one of yes, no'),
    ('grey:x,spread=yes,first=0', 'numbers only order the masks'),
    (
      'arrays:x,spread=yes,stride=2',
      'has stride=, but with spread=yes numbers only order the masks',
    ),
    ('grey:x,stride=0', 'stride=0 must be a number of frames such as 10, or 10.9'),
    ('yolo:x,stride=2.5', 'stride=2.5 must be a number of frames'),
    ('palette:x,values=1', "'1' must be VALUE:REGION"),
    ('palette:x,values=', "'' must be VALUE:REGION"),
    ('palette:x,values=1:person/', "'' must be VALUE:REGION"),
    ('palette:x,values=1:people', "'1:people' must be VALUE:REGION with one of the regions person"),
    ('palette:x,values=cat:object', "'cat' must be a whole number or"),
    ('palette:x,values=1:object/01:person', 'names 1 twice'),
    ('arrays:x,values=1:object,region=person', 'give one of the two'),
    ('coco:x,score=high', 'score=high must be a number from 0 to 1'),
    ('coco:x,score=nan', 'score=nan must be a number from 0 to 1'),
    ('coco:x,images=', 'images= must be the path'),
    ('yolo:x,extra=3', 'extra=3 must be one of auto, 0, 1, 2'),
    ('grey:/nowhere', '/nowhere is not a folder'),
    ('coco:/nowhere', '/nowhere does not exist'),
    ('yolo:/nowhere', '/nowhere is not a folder'),
  ],
)
def test_wrong_specs_have_a_reason(text, message):
  with pytest.raises(UserError, match=message) as error:
    open_masks(text)
  assert str(error.value).startswith('--masks: ')
  assert '\n' not in str(error.value)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from([*FORMATS, 'other']), st.text(max_size=30))
def test_any_text_is_opened_or_refused(name, rest):
  assume('\0' not in rest)
  with pytest.raises(UserError, match='^--masks: '):
    open_masks(f'{name}:/nowhere/{rest}')


@settings(deadline=None, max_examples=100)
@given(
  st.text(min_size=1, max_size=20),
  st.dictionaries(
    st.integers(0, 300).map(str) | st.just('*'), st.sampled_from(list(REGION_BITS)), min_size=1
  ),
  st.sampled_from([0, 1]),
)
def test_specs_are_read_back(path, values, first):
  assume(not re.search(',[a-z_]+=[^,]*$', path) and path[0] != '~' and '://' not in path)
  text = '/'.join(f'{value}:{region}' for value, region in values.items())
  fake = dataclasses.replace(FORMATS['palette'], open=lambda path, **options: (path, options))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(FORMATS, 'palette', fake)
    drawn = open_masks(f'palette:{path},first={first},values={text}')
  bits = {value: REGION_BITS[region] for value, region in values.items()}
  assert drawn == (path, {'first': first, 'values': bits})


def test_options_reach_their_source(tmp_path):
  for folder in ('a,b', 'a'):
    (tmp_path / folder).mkdir()
  np.save(tmp_path / 'a,b' / 'c.npy', np.stack([blob(0), blob(1)]) * 3)
  source = open_masks(f'arrays:{tmp_path}/a,b,values=3:object,spread=yes')
  drawn, _ = planes(source, video(4), clip('c'))
  assert [plane is None for plane in drawn] == [False, True, True, False]
  np.testing.assert_array_equal(drawn[3], np.where(blob(1), OBJECT, 0))
  assert open_masks(f'grey:{tmp_path},first=1,region=object').region_names == ('object',)
  source = open_masks(f'yolo:{tmp_path},score=0.2,values=0:person/7:object_box')
  assert source.region_names == ('person', 'object_box')
  assert source.parameters == {
    'format': 'yolo',
    'path': str(tmp_path),
    'values': {'0': PERSON, '7': OBJECT_BOX},
    'first': 1,
    'first_given': False,
    'spread': False,
    'stride': 1,
    'start': 0,
    'first_side_by_side': 1,
    'score': 0.2,
    'extra': None,
  }
  assert open_masks(f'egohos:{tmp_path},first=1').region_names == ('person', 'object')
