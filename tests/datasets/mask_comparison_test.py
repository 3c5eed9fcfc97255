"""Tests the comparison of masks against values known from the drawing, and brute force."""

import itertools
import math

import cv2
import numpy as np
import pytest

from tests.datasets.video_test import write_video
from zsar_jax.datasets import mask_comparison
from zsar_jax.datasets.mask_comparison import boundary_f, compare_clip, compare_frame
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import Storage


def _brute_force_boundary(mask):
  """The positions whose neighbor to the right, below or diagonal, if inside, is different."""
  height, width = mask.shape
  return [
    (y, x)
    for y, x in itertools.product(range(height), range(width))
    if any(
      mask[min(y + down, height - 1), min(x + right, width - 1)] != mask[y, x]
      for down, right in ((0, 1), (1, 0), (1, 1))
    )
  ]


def _brute_force_f(mask, reference):
  radius = math.ceil(0.008 * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))
  own, other = _brute_force_boundary(mask), _brute_force_boundary(reference)
  if not own and not other:
    return 1.0
  if not own or not other:
    return 0.0

  def near(points, targets):
    hits = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in targets) for y, x in points]
    return sum(hits) / len(hits)

  precision, recall = near(own, other), near(other, own)
  return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _blobs(rng, shape):
  """Some rectangles, which may touch the edges, and a few single pixels."""
  mask = np.zeros(shape, bool)
  for _ in range(rng.integers(0, 4)):
    top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
    mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 30)] = True
  mask[rng.integers(0, shape[0], 3), rng.integers(0, shape[1], 3)] ^= rng.random() < 0.5
  return mask


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('shape', [(40, 60), (60, 300), (1, 1)])
def test_boundary_f_is_that_of_brute_force(shape, seed):
  rng = np.random.default_rng(seed)
  mask, reference = _blobs(rng, shape), _blobs(rng, shape)
  if seed % 2:  # Boundaries that are near each other.
    reference = np.roll(mask, rng.integers(-4, 5, 2), (0, 1))
  assert boundary_f(mask, reference) == pytest.approx(_brute_force_f(mask, reference))
  assert boundary_f(mask, mask) == 1


def test_boundary_f_of_empty_and_full_masks():
  empty, full, half = np.zeros((20, 30), bool), np.ones((20, 30), bool), np.eye(20, 30) > 0
  assert boundary_f(empty, empty) == boundary_f(full, empty) == 1  # Neither has a boundary.
  assert boundary_f(half, empty) == boundary_f(full, half) == 0


def test_tolerance_is_a_share_of_the_diagonal():
  """A frame of 300 x 400 pixels has a diagonal of 500, of which 0.008 are 4 pixels."""
  mask = np.zeros((300, 400), bool)
  mask[100:150, 100:180] = True
  assert boundary_f(mask, np.roll(mask, 4, 1)) == 1
  shifted = boundary_f(mask, np.roll(mask, 5, 1))
  assert 0.5 < shifted < 1  # The upper and lower edges still match.


def test_areas():
  mask, reference = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
  mask[:4, :5] = True  # 20 pixels, of which 10 are in the reference.
  reference[2:6, :5] = True
  frame = compare_frame(mask, reference)
  assert (frame.mask, frame.reference, frame.common) == (20, 20, 10)
  assert frame.iou == pytest.approx(1 / 3)
  empty = np.zeros((10, 10), bool)
  assert compare_frame(empty, empty).iou == 1
  assert compare_frame(mask, empty).iou == compare_frame(empty, mask).iou == 0


# The first column of each mask, which is 20 wide and 30 high; None for a frame without a mask and
# -1 for an empty one.
_MASKS = [0, 10, 10, None, -1, -1, 30, 0]
_REFERENCE = [0, 0, 10, 10, -1, 0, None, 20]


@pytest.fixture(name='tasks')
def _tasks(tmp_path):
  path = write_video(tmp_path / 'videos' / 'x' / 'a.mp4', [20 * n for n in range(8)])
  sources = []
  for name, columns in (('masks', _MASKS), ('reference', _REFERENCE)):
    folder = tmp_path / name / 'x' / 'a'
    folder.mkdir(parents=True)
    for number, column in enumerate(columns):
      if column is not None:
        mask = np.zeros((48, 64), np.uint8)
        mask[9:39, column : column + 20] = 255 * (column >= 0)
        cv2.imwrite(str(folder / f'{number:05d}.png'), mask)
    sources.append(open_masks(f'grey:{tmp_path / name},first=0'))
  clip = ListedClip('x/a', 0, str(path), 'x/a')
  masks, reference = (source.for_clip(clip) for source in sources)

  def task(keep='all', of=masks, against=reference):
    return mask_comparison.ComparisonTask(clip, of, against, ('person',), Storage(keep=keep))

  return task, masks, reference


def test_a_clip(tasks):
  task, _, _ = tasks
  compared = compare_clip(task())
  assert compared.failure is None
  assert (compared.frames, compared.only_masks, compared.only_reference) == (6, 1, 1)
  person = compared.regions['person']
  # Frames 0, 1, 2, 4, 5 and 7: equal, half common, equal, both empty, missed, side by side.
  assert person.iou == pytest.approx((1 + 1 / 3 + 1 + 1 + 0 + 0) / 6)
  areas = 30 * 20
  assert person.missed == pytest.approx(1 - 2.5 * areas / (5 * areas))
  assert person.added == pytest.approx(1 - 2.5 * areas / (4 * areas))
  assert person.worst_frames == (5, 7, 1)
  assert 0.5 < person.boundary_f < 1


def test_a_clip_and_itself(tasks):
  task, masks, _ = tasks
  person = compare_clip(task(of=masks, against=masks)).regions['person']
  assert (person.iou, person.boundary_f, person.missed, person.added) == (1, 1, 0, 0)
  assert person.worst_frames == ()


def test_kept_frames_are_those_that_both_annotate(tasks):
  task, _, _ = tasks
  compared = compare_clip(task('segments:2'))
  assert compared.frames == 2
  assert compared.only_masks + compared.only_reference == 0


def test_a_clip_that_cannot_be_compared(tasks, tmp_path):
  task, _, _ = tasks
  (tmp_path / 'masks' / 'x' / 'a' / '00001.png').write_bytes(b'no image')
  assert '00001.png' in compare_clip(task()).failure
