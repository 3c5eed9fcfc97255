"""Segment sampling, and the geometry that frames and planes share."""

import cv2
import numpy as np
import pytest

from zsar_jax.data.geometry import (
  Box,
  center_crop,
  random_crop,
  random_square,
  resize_frame,
  resize_plane,
)
from zsar_jax.data.sampling import evaluation_indices, nearest_annotated, segment_indices
from zsar_jax.recipes.regions import (
  OBJECT,
  OBJECT_BOX,
  PERSON,
  PERSON_BOX,
  draw_box,
  shapes_from_boxes,
)


@pytest.mark.parametrize('num_frames', [1, 3, 8, 9, 36, 300])
@pytest.mark.parametrize('num_segments', [1, 4, 8, 32])
def test_segments(num_frames, num_segments):
  """Centers are X-CLIP's int(i N / T + N / 2T); random frames stay in their own segment."""
  centers = segment_indices(num_frames, num_segments)
  expected = [
    int(i * num_frames / num_segments + num_frames / (2 * num_segments))
    for i in range(num_segments)
  ]
  assert centers.tolist() == expected
  drawn = np.array(
    [segment_indices(num_frames, num_segments, np.random.default_rng(seed)) for seed in range(200)]
  )
  edges = np.arange(num_segments + 1) * num_frames / num_segments
  assert (drawn >= np.floor(edges[:-1])).all()
  assert (drawn < np.ceil(edges[1:])).all()
  if num_frames >= 8 * num_segments:
    assert all(len(set(column)) > 1 for column in drawn.T)


@pytest.mark.parametrize('views', [2, 3, 5])
def test_views_in_time_share_out_the_segments(views):
  """If a segment has as many frames as there are views, each view takes another frame."""
  by_view = [segment_indices(4 * views, 4, offset=(j + 0.5) / views) for j in range(views)]
  assert [indices.tolist() for indices in by_view] == [
    [segment * views + j for segment in range(4)] for j in range(views)
  ]


@pytest.mark.parametrize('num_frames', [1, 3, 8, 9, 36, 300])
@pytest.mark.parametrize('count', [1, 2, 5, 8, 16])
def test_other_samplings_are_those_of_their_authors(num_frames, count):
  starts = evaluation_indices(num_frames, count, 'starts')
  assert starts.tolist() == [int(i * num_frames / count) for i in range(count)]
  if count in (1, 2, 8, 16):  # VideoPrism's; another step is rounded before it is multiplied.
    linspace = np.linspace(0, num_frames, count, endpoint=False).astype(int)
    assert starts.tolist() == linspace.tolist()
  # From apps/pe/clip_benchmark of PE's code.
  ends = [num_frames // 2]
  if count > 1:
    ends = [int(i * (num_frames - 1) / (count - 1)) for i in range(count)]
  assert evaluation_indices(num_frames, count, 'ends').tolist() == ends
  centers = evaluation_indices(num_frames, count)
  assert centers.tolist() == segment_indices(num_frames, count).tolist()


def test_nearest_annotated():
  annotated = np.array([0, 1, 0, 0, 0, 1, 0], bool)
  assert nearest_annotated(annotated, np.arange(7)).tolist() == [1, 1, 1, 1, 5, 5, 5]


def test_random_crops_stay_inside_and_keep_the_given_share():
  rng = np.random.default_rng(0)
  shares = []
  for _ in range(500):
    box = random_crop(rng, 120, 160, (0.5, 1.0), (0.75, 4 / 3))
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= 120
    assert box.left + box.width <= 160
    shares.append(box.height * box.width / (120 * 160))
  assert 0.35 < min(shares) < 0.55
  assert 0.9 < max(shares) <= 1


def test_centre_crop():
  assert center_crop(240, 320, 224 / 256) == Box(15, 55, 210, 210)
  assert center_crop(3, 200, 0.1).height == 1
  offsets = (0, 0.5, 1)
  wide = [center_crop(240, 321, 224 / 256, offset) for offset in offsets]
  assert wide == [Box(15, 0, 210, 210), Box(15, 55, 210, 210), Box(15, 111, 210, 210)]
  tall = [center_crop(321, 240, 1.0, offset) for offset in offsets]
  assert tall == [Box(0, 0, 240, 240), Box(40, 0, 240, 240), Box(81, 0, 240, 240)]
  assert len({center_crop(64, 64, 1.0, offset) for offset in offsets}) == 1
  # 'squash' keeps the full width and height, or the same share of both.
  assert center_crop(240, 320, 1.0, resize='squash') == Box(0, 0, 240, 320)
  assert center_crop(240, 320, 0.875, 0.0, 'squash') == Box(15, 20, 210, 280)


@pytest.mark.parametrize('box', [Box(3, 5, 50, 61), Box(0, 0, 80, 100), Box(10, 10, 12, 9)])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_frames_and_planes_share_their_geometry(box, interpolation):
  """A blob that is drawn into frame and plane has the same center in both."""
  y, x = np.mgrid[:80, :100]
  blob = ((y - 25.3) ** 2 / 9**2 + (x - 31.7) ** 2 / 12**2 < 1).astype(np.uint8)
  if box.height < 20:
    blob = (x + 2 * y > 50).astype(np.uint8)
  frame = np.repeat(blob[..., None] * 255, 3, axis=2)
  size = 32
  resized = resize_frame(frame, box, size, interpolation)[..., 0] > 127
  plane = resize_plane(blob * PERSON, box, size) == PERSON
  moments = [cv2.moments(mask.astype(np.uint8), binaryImage=True) for mask in (resized, plane)]
  for axis in ('m10', 'm01'):
    centers = [moment[axis] / moment['m00'] for moment in moments]
    assert abs(centers[0] - centers[1]) < 0.35
  assert (resized != plane).mean() < 0.04


def test_planes_stay_bits():
  plane = np.random.default_rng(0).integers(0, 16, (40, 50), dtype=np.uint8)
  assert set(np.unique(resize_plane(plane, Box(0, 0, 40, 50), 33))) <= set(range(16))


def test_boxes():
  plane = np.zeros((5, 6), np.uint8)
  draw_box(plane, PERSON_BOX, -3, 1.5, 2.2, 99)
  draw_box(plane, OBJECT_BOX, 2, 0, 6, 2)
  draw_box(plane, OBJECT, 4, 4, 4, 5)
  expected = np.zeros((5, 6), np.uint8)
  expected[1:, :3] = PERSON_BOX
  expected[:2, 2:] |= OBJECT_BOX
  np.testing.assert_array_equal(plane, expected)
  shapes = shapes_from_boxes(plane, ('person', 'object'))
  np.testing.assert_array_equal(shapes & PERSON > 0, plane & PERSON_BOX > 0)
  np.testing.assert_array_equal(shapes & OBJECT > 0, plane & OBJECT_BOX > 0)
  # Objects with shapes keep them.
  people = shapes_from_boxes(plane, ('person',))
  np.testing.assert_array_equal(people & PERSON > 0, plane & PERSON_BOX > 0)
  np.testing.assert_array_equal(people & ~np.uint8(PERSON), plane)
  # A shape is unknown if the box that stands in for it is unknown.
  assert shapes_from_boxes(np.uint8([PERSON_BOX << 4]), ('person',)) == (PERSON_BOX | PERSON) << 4
  assert shapes_from_boxes(np.uint8([OBJECT_BOX << 4]), ('person',)) == OBJECT_BOX << 4


@pytest.mark.parametrize(('height', 'width'), [(256, 455), (455, 256), (240, 240), (7, 9)])
def test_random_squares_are_squares_of_the_short_side(height, width):
  rng = np.random.default_rng(0)
  boxes = [random_square(rng, height, width, (0.66, 1.0)) for _ in range(300)]
  for box in boxes:
    assert box.height == box.width
    assert 0 <= box.top <= height - box.height
    assert 0 <= box.left <= width - box.width
  sides = [box.height / min(height, width) for box in boxes]
  assert 0.6 < min(sides) < 0.72
  assert 0.95 < max(sides) <= 1.0
