"""What moves in clips whose masks are known: drawn ones and Pantomime's figures."""

import dataclasses
import gc
import weakref

import cv2
import numpy as np
import pytest

from tests.mask_making.drawn_clips import make_clip, textured_scene
from zsar_jax.errors import UserError
from zsar_jax.mask_making import motion
from zsar_jax.mask_making.motion import MotionSpec
from zsar_jax.pantomime import brush, render
from zsar_jax.recipes.regions import OBJECT, PERSON


def _make(frames, fps=10.0, region='person'):
  clip = dataclasses.replace(make_clip(frames), fps=fps)
  masks = list(MotionSpec(region).open().make([clip]))
  assert len(masks) == len(frames)
  return [None if mask is None else mask.plane for mask in masks]


def _overlap(planes, truths):
  """The mean IoU, and the share of the true pixels that are found."""
  pairs = [(plane != 0, truth) for plane, truth in zip(planes, truths, strict=True)]
  ious = [(plane & truth).sum() / (plane | truth).sum() for plane, truth in pairs]
  recalls = [(plane & truth).sum() / truth.sum() for plane, truth in pairs]
  return np.mean(ious), np.mean(recalls)


def _moving_rectangle(count, pan, size=(100, 140), move=6):
  """A rectangle that crosses a textured scene, seen by a camera that pans by `pan` a frame."""
  height, width = size
  scene = textured_scene(4, height + 40, width + 40 + abs(pan) * count)
  figure = textured_scene(5, 40, 24)[..., ::-1] // 2 + np.array([120, 0, 0], np.uint8)
  frames, truths = [], []
  for index in range(count):
    left = index * pan if pan >= 0 else (index - count) * pan
    frame = scene[20 : 20 + height, left : left + width].copy()
    truth = np.zeros(size, bool)
    x = 10 + index * move
    frame[35:75, x : x + 24] = figure
    truth[35:75, x : x + 24] = True
    frames.append(frame)
    truths.append(truth)
  return np.stack(frames), truths


# Where the camera moves fast, a place is seen for a short time, and what passed it in that time is
# added to the mask.
@pytest.mark.parametrize(('pan', 'least'), [(0, 0.8), (2, 0.8), (7, 0.6), (-14, 0.45)])
@pytest.mark.parametrize(('region', 'bit'), [('person', PERSON), ('object', OBJECT)])
def test_a_rectangle_is_found_while_the_camera_pans(pan, least, region, bit):
  frames, truths = _moving_rectangle(17, pan)
  planes = _make(frames, region=region)
  assert set(np.unique(planes)) == {0, bit}
  iou, recall = _overlap(planes, truths)
  assert iou > least
  assert recall > 0.95


# The mean IoU, and the mean share of the pixels that are found, as measured for other clips than
# those that the constants were chosen with. A figure that does not walk moves its limbs alone.
@pytest.mark.parametrize(
  ('world', 'walk', 'pan', 'iou', 'recall'),
  [
    ('scenes', 0.0, 0.0, 0.47, 0.65),
    ('scenes', 0.6, 0.0, 0.60, 0.97),
    ('scenes', 0.6, 0.1, 0.41, 0.50),
    ('mimes', 0.0, 0.1, 0.48, 0.64),
    ('mimes', 0.6, 0.15, 0.42, 0.51),
  ],
)
def test_pantomimes_figures(world, walk, pan, iou, recall):
  results = []
  for index in range(4):
    frames, truths = _walking_figure(world, index, walk, pan)
    results.append(_overlap(_make(frames, fps=12.0), truths))
  assert np.mean(results, axis=0) == pytest.approx([iou, recall], rel=0.15)


def _walking_figure(world, index, walk, pan, size=160, count=20):
  """A figure that crosses the share `walk` of the frame, through crops that move by `pan` of it."""
  layered = render.draw_layers(world, 'test', index, seed=21, size=size, num_frames=count)
  (layer,) = layered.layers
  side = round(size * (1 - pan))
  frames, truths = [], []
  for number, (backdrop, pixels) in enumerate(zip(layered.backdrop, layer.pixels, strict=True)):
    time = number / (count - 1)
    shift = np.float64([[1, 0, round(walk * size * (time - 0.5))], [0, 1, 0]])
    pixels = cv2.warpAffine(pixels, shift, (size, size))
    frame = brush.composite(backdrop[None], pixels[None])[0]
    left, top = (round((size - side) * share) for share in (time, (1 + np.sin(4 * time)) / 2))
    crop = (slice(top, top + side), slice(left, left + side))
    frames.append(frame[crop])
    truths.append(pixels[crop][..., 3] >= 128)
  return np.stack(frames), truths


@pytest.mark.parametrize('pan', [0, 5])
def test_nothing_moves_in_a_noisy_scene(pan):
  scene = textured_scene(1, 90, 130 + 12 * pan)
  frames = np.stack([scene[:, index * pan : index * pan + 130] for index in range(12)])
  noise = np.random.default_rng(0).normal(0, 4, frames.shape)
  planes = _make(np.clip(frames + noise, 0, 255).astype(np.uint8))
  assert np.mean(planes) < 0.001


def test_frames_are_not_compared_across_a_cut():
  frames, truths = _moving_rectangle(9, pan=3)
  other = np.stack([textured_scene(9, 100, 140)] * 5)
  alone, cut = _make(frames), _make(np.concatenate([frames, other]))
  for index in range(9):
    np.testing.assert_array_equal(cut[index], alone[index])
  assert not np.any(cut[9:])
  # A scene of a single frame cannot be compared with anything.
  frames[4] = textured_scene(8, 100, 140)
  assert [index for index, plane in enumerate(_make(frames)) if plane is None] == [4]


def test_the_only_frame_of_a_clip_is_unknown():
  assert _make(textured_scene(0, 30, 40)[None]) == [None]


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (3, 2), (31, 17), (481, 271)])
def test_planes_have_the_size_of_the_frames(size):
  frames = np.stack([textured_scene(seed, *size) for seed in range(2)] * 2)
  for plane in _make(frames):
    assert plane is None or plane.shape == size


def test_masks_do_not_depend_on_earlier_clips():
  frames, _ = _moving_rectangle(6, pan=2)
  clip, other = make_clip(frames), make_clip(frames[::-1, :, ::-1])
  maker = MotionSpec().open()
  alone = list(maker.make([clip]))
  after = list(maker.make([other, clip]))[6:]
  for mask, again in zip(alone, after, strict=True):
    np.testing.assert_array_equal(mask.plane, again.plane)


@pytest.mark.parametrize('fps', [1.0, 30.0])
def test_few_pictures_of_a_long_clip_are_in_memory(monkeypatch, fps):
  alive = weakref.WeakSet()
  created = motion._Picture.__init__
  highest = 0

  def count(self, frame):
    nonlocal highest
    created(self, frame)
    alive.add(self)
    highest = max(highest, len(alive))

  monkeypatch.setattr(motion._Picture, '__init__', count)
  frames = np.stack([textured_scene(0, 24, 32)] * 150)
  gc.collect()
  _make(frames, fps)
  assert highest <= 2 * motion._REACH + 3


def test_provenance_says_that_the_masks_are_weak():
  provenance = MotionSpec('object').open().provenance
  assert provenance['weak'] is True
  assert 'weak' in provenance['about']
  with pytest.raises(UserError, match='--region'):
    MotionSpec('person_box')
