"""Tests the measures of masks against values that are known from how the planes are drawn."""

import numpy as np
import pytest

from zsar_jax.datasets import mask_gates
from zsar_jax.datasets.masks.made_files import MadeFrame
from zsar_jax.recipes.regions import OBJECT, PERSON, PERSON_BOX, UNKNOWN_SHIFT

_BOTH = ('person', 'object')


def _plane(person: int = 0, thing: int = 0) -> np.ndarray:
  """Draws a plane of 1,000 pixels, of which the first show a person and the last an object."""
  plane = np.zeros(1000, np.uint8)
  plane[:person] |= PERSON
  plane[1000 - thing :] |= OBJECT
  return plane.reshape(20, 50)


def _measures(planes, regions=_BOTH, made=()):
  meter = mask_gates.MaskMeter(regions)
  assert len(list(meter.watch(planes, made))) == len(planes)
  return meter.measures()


def test_areas_are_those_of_the_drawn_shapes():
  planes = [_plane(100), None, _plane(200, 30), _plane(0, 60), _plane(120)]
  assert _measures(planes) == {
    'person empty': 0.25,
    'person area': 0.14,
    'person jump': 20.0,  # From 20 % to nothing, which counts as 1 %.
    'object empty': 0.5,
    'object area': 0.045,
    'object jump': 6.0,  # From 6 % to nothing.
  }


def test_small_shapes_do_not_jump():
  assert _measures([_plane(1), _plane(9), _plane(0), _plane(10)], ['person'])['person jump'] == 1
  assert _measures([_plane(1), _plane(31)], ['person'])['person jump'] == 3.1
  assert 'person jump' not in _measures([_plane(5), None], ['person'])


def test_share_outside_boxes():
  inside, outside, boxless = _plane(100), _plane(100), _plane(100)
  inside[:2] |= PERSON_BOX  # All 100 pixels.
  outside[:, :10] |= PERSON_BOX  # 10 pixels of each of the two rows of the person.
  measure = 'person outside'
  assert _measures([inside], ['person', 'person_box'])[measure] == 0
  assert _measures([outside], ['person', 'person_box'])[measure] == 0.8
  assert _measures([inside, outside, boxless], ['person', 'person_box'])[measure] == 0.6
  # Without boxes there is no outside.
  assert measure not in _measures([boxless], ['person', 'person_box'])
  assert measure not in _measures([outside], ['person'])


def test_unknown_regions_have_no_measures():
  unknown = np.uint8(OBJECT << UNKNOWN_SHIFT)
  names = set(_measures([_plane(100) | unknown, _plane(50) | unknown]))
  assert names == {'person empty', 'person area', 'person jump'}
  box_unknown = np.uint8(PERSON_BOX << UNKNOWN_SHIFT)
  assert 'person outside' not in _measures([_plane(9) | box_unknown], ['person', 'person_box'])
  assert _measures([None, None]) == {}


def test_scores_and_people():
  made = [
    MadeFrame(b'', people=2, score=0.9, outside=0.1),
    MadeFrame(b'', people=0),
    None,
    MadeFrame(b'', people=5, score=0.3, outside=0.8),
    MadeFrame(b'', people=4, score=0.5),
  ]
  planes = [_plane(), _plane(), _plane(), _plane(), None]  # The last frame does not count.
  measures = _measures(planes, (), made)
  assert measures == {
    'removed': 0.45,
    'lowest score': 0.3,
    'median score': 0.6,
    'people': 5,
    'people change': 3.5,  # From 2 to 0, and from 0 to 5.
  }
  assert mask_gates.failed_gates(measures) == {'people vary': 3.5}


def test_shapes_that_boxes_call_absent_are_not_missed():
  absent, present = MadeFrame(b'', people=0, absent=PERSON), MadeFrame(b'', people=1)
  planes = [_plane(100), _plane(), _plane(300), _plane()]
  measures = _measures(planes, ('person',), [present, absent, present, present])
  assert measures['person empty'] == pytest.approx(1 / 3, abs=1e-4)
  # From the third to the fourth frame; the second one is not a neighbor of any.
  assert measures['person jump'] == 30  # From 30 % to nothing, which counts as 1 %.
  measures = _measures([_plane()], ('person',), [absent])
  assert 'person empty' not in measures
  # A shape that is drawn nevertheless counts.
  assert _measures([_plane(100)], ('person',), [absent])['person empty'] == 0


def test_scores_count_as_files_have_them():
  generator = np.random.default_rng(0)
  planes = [generator.integers(0, 4, (20, 50), np.uint8) for _ in range(4)]
  planes[2] = None
  scores = generator.random(4)
  exact = [MadeFrame(b'', 1, score) for score in scores]
  stored = [MadeFrame(b'', 1, round(score, 4)) for score in scores]
  assert _measures(planes, _BOTH, exact) == _measures(planes, _BOTH, stored)


@pytest.mark.parametrize('gate', mask_gates.GATES.values(), ids=lambda gate: gate.name)
def test_gates(gate):
  step = (gate.worst - gate.limit) / 4
  assert not gate.fails(gate.limit)
  assert not gate.fails(gate.limit - step / 100)
  assert gate.fails(gate.limit + step / 100)
  severities = [gate.severity(gate.limit + n * step) for n in range(6)]
  assert severities == sorted(severities)
  assert [severities[0], *severities[4:]] == pytest.approx([gate.weight, *[2 * gate.weight] * 2])


def test_clips_are_ranked():
  def severity(planes):
    return mask_gates.severity(mask_gates.failed_gates(_measures(planes)))

  good = [_plane(200, 50)] * 4
  mime = [_plane(200)] * 4
  jumping = [_plane(50, 50), _plane(300, 50)] * 2
  half_empty = [_plane(200, 50), _plane(0, 50)] * 2
  empty = [_plane(0, 50)] * 4
  ranks = [severity(planes) for planes in (good, mime, jumping, half_empty, empty)]
  assert ranks == sorted(set(ranks))
  assert ranks[0] == 0 < ranks[1]
  failed = mask_gates.failed_gates(_measures(half_empty))
  assert failed == {'person empty': 0.5, 'person jump': 20}
  assert mask_gates.describe_failed(failed) == 'person empty 50 %, person jump 20x'
  assert mask_gates.severity({'of a later version': 1.0}) == 0


def test_every_gate_has_a_measure():
  boxed = _plane(10, 10) | np.uint8(PERSON_BOX | PERSON_BOX << 1)
  frame = MadeFrame(b'', 1, 0.5, 0.5)
  regions = ['person', 'object', 'person_box', 'object_box']
  names = set(_measures([boxed] * 2, regions, [frame] * 2))
  assert {gate.measure for gate in mask_gates.GATES.values()} == names
