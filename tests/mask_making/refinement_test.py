"""Refined masks, compared with SciPy's morphology."""

import numpy as np
import pytest
from scipy import ndimage

from zsar_jax.errors import UserError
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.mask_making.refinement import Refinement, refine
from zsar_jax.recipes.regions import OBJECT, OBJECT_BOX, PERSON, PERSON_BOX

NOTHING = Refinement(union=0, dilate=0, fill_holes=0)


def _blobs(seed, height, width, bits=(PERSON, OBJECT, PERSON_BOX)):
  """A plane of smooth random shapes, some at the edges, and some with holes."""
  rng = np.random.default_rng(seed)
  plane = np.zeros((height, width), np.uint8)
  for bit in bits:
    smooth = ndimage.gaussian_filter(rng.normal(size=(height, width)), 2, mode='wrap')
    plane |= np.where(smooth > 0.02, np.uint8(bit), np.uint8(0))
  return plane


def _disk(radius):
  reach = int(radius)
  down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  return down**2 + right**2 <= radius**2


def _filled(shape, max_area):
  """SciPy's hole filling, for the holes that are small enough."""
  holes = ndimage.binary_fill_holes(shape) & ~shape
  labels, count = ndimage.label(holes)
  areas = ndimage.sum_labels(holes, labels, np.arange(1, count + 1))
  return shape | np.isin(labels, 1 + np.flatnonzero(areas <= max_area))


@pytest.mark.parametrize(('height', 'width'), [(48, 64), (33, 71), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize('dilate', [0, 0.04, 0.1, 1])
@pytest.mark.parametrize('fill_holes', [0, 0.002, 0.2])
def test_shapes_are_dilated_by_disks_and_small_holes_filled(height, width, dilate, fill_holes):
  plane = _blobs(height, height, width)
  (refined,) = refine(iter([FrameMask(plane)]), Refinement(0, dilate, fill_holes))
  for bit in (PERSON, OBJECT):
    shape = ndimage.binary_dilation(plane & bit != 0, _disk(dilate * min(height, width)))
    expected = _filled(shape, fill_holes * height * width)
    np.testing.assert_array_equal(refined.plane & bit != 0, expected)
  others = np.uint8(255 - PERSON - OBJECT)
  np.testing.assert_array_equal(refined.plane & others, plane & others)


def test_holes_are_filled_up_to_the_share_of_the_frame():
  plane = np.zeros((20, 50), np.uint8)
  plane[2:18, 2:48] = PERSON
  plane[4:6, 4:9] = 0  # 10 pixels.
  plane[10, 20:31] = 0  # 11 pixels.
  plane[0:4, 40:42] = 0  # At the edge of the shape, not enclosed.
  (refined,) = refine(iter([FrameMask(plane)]), Refinement(0, 0, 10 / plane.size))
  expected = plane.copy()
  expected[4:6, 4:9] = PERSON
  np.testing.assert_array_equal(refined.plane, expected)


@pytest.mark.parametrize('union', [0, 1, 2, 5])
@pytest.mark.parametrize('count', [0, 1, 2, 7])
def test_masks_of_neighboring_frames_are_united(union, count):
  planes = [_blobs(index, 16, 20) for index in range(count)]
  unknown = {1, 5}
  masks = [None if i in unknown else FrameMask(plane) for i, plane in enumerate(planes)]
  refined = list(refine(iter(masks), Refinement(union, 0, 0)))
  assert len(refined) == count
  for index, mask in enumerate(refined):
    if index in unknown:
      assert mask is None
      continue
    expected = planes[index].copy()
    for other in range(max(0, index - union), min(count, index + union + 1)):
      if other not in unknown:
        expected |= planes[other] & (PERSON | OBJECT)
    np.testing.assert_array_equal(mask.plane, expected)


def test_counts_scores_and_the_input_remain():
  plane = _blobs(3, 16, 20, bits=(OBJECT, OBJECT_BOX))
  before = plane.copy()
  (refined,) = refine(iter([FrameMask(plane, 2, 0.5, 0.25)]), Refinement(1, 0.2, 0.1))
  assert (refined.people, refined.score, refined.outside) == (2, 0.5, 0.25)
  np.testing.assert_array_equal(plane, before)
  assert np.count_nonzero(refined.plane & OBJECT) > np.count_nonzero(plane & OBJECT)
  assert not np.any(refined.plane & PERSON)
  (same,) = refine(iter([FrameMask(plane)]), NOTHING)
  np.testing.assert_array_equal(same.plane, plane)


@pytest.mark.parametrize('union', [0, 1, 3])
def test_masks_are_taken_and_released_as_they_are_refined(union):
  taken = 0

  def masks():
    nonlocal taken
    for index in range(50):
      taken += 1
      yield FrameMask(_blobs(index, 4, 4))

  for index, _ in enumerate(refine(masks(), Refinement(union, 0, 0))):
    assert taken == min(50, index + union + 1)


@pytest.mark.parametrize(
  'options', [{'dilate': -0.1}, {'dilate': float('nan')}, {'fill_holes': 2}, {'union': -1}]
)
def test_options_out_of_range_are_refused_by_their_flags(options):
  flag = next(iter(options)).replace('_', '-')
  with pytest.raises(UserError, match=f'--{flag}='):
    Refinement(**options)
