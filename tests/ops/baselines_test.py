"""Published augmentations against references that loop over pixels."""

import colorsys

import jax
import numpy as np
import pytest

from zsar_jax.ops import baselines
from zsar_jax.ops.photometric import CLIP_MEAN, CLIP_STD

foreground_of = jax.jit(baselines.fame_foreground)


def random_video(rng, frames=3, height=6, width=5):
  return rng.normal(size=(frames, height, width, 3)).astype(np.float32)


def normalized(rgb):
  return ((rgb - np.array(CLIP_MEAN)) / np.array(CLIP_STD)).astype(np.float32)


def actor_pair(rng, mine=0.3, others=0.4, frames=2):
  clips = []
  for share in (mine, others):
    video = random_video(rng, frames)
    clips += [video, rng.random(video.shape[:3]) < share, rng.dirichlet(np.ones(4))]
  clips[2], clips[5] = clips[2].astype(np.float32), clips[5].astype(np.float32)
  return clips


def cut(video, actors, targets, other_video, other_actors, other_targets):
  """ActorCutMix, written from its description."""
  if actors.all() or not actors.any():
    return video, targets
  out = np.empty(video.shape)
  for index in np.ndindex(actors.shape):
    if actors[index]:
      out[index] = video[index]
    elif other_actors[index]:
      out[index] = [(0 - m) / s for m, s in zip(CLIP_MEAN, CLIP_STD, strict=True)]
    else:
      out[index] = other_video[index]
  scene_share = sum(not actors[index] for index in np.ndindex(actors.shape)) / actors.size
  return out, (1 - scene_share**4) * targets + scene_share**4 * other_targets


def test_actors_are_put_into_a_scene_whose_own_actors_are_black():
  rng = np.random.default_rng(0)
  shares = [(0.3, 0.4), (0, 0.5), (1, 0.5), (0.6, 0), (0.6, 1)]
  pairs = [actor_pair(rng, *share) for share in shares]
  stacked = [np.stack(x) for x in zip(*pairs, strict=True)]
  videos, targets = jax.jit(jax.vmap(baselines.actor_cutmix))(*stacked)
  for pair, video, target in zip(pairs, videos, targets, strict=True):
    expected_video, expected_target = cut(*pair)
    np.testing.assert_allclose(video, expected_video, atol=1e-6)
    np.testing.assert_allclose(target, expected_target, atol=1e-6)
    alone_video, alone_target = baselines.actor_cutmix(*pair)
    np.testing.assert_allclose(alone_video, video, atol=1e-6)
    np.testing.assert_allclose(alone_target, target, atol=1e-6)


def share_of(mixed, video, frame):
  """Returns the weight of `frame` in `mixed`, and fails if it is not equal for all pixels."""
  difference = frame - video
  share = float((mixed - video).ravel() @ difference.ravel() / (difference**2).sum())
  np.testing.assert_allclose(mixed, (1 - share) * video + share * frame, atol=1e-5)
  return share


def test_background_erasing_adds_one_of_the_own_frames():
  video = random_video(np.random.default_rng(1), frames=4)
  keys = jax.random.split(jax.random.key(0), 400)
  mixed = np.asarray(jax.jit(jax.vmap(baselines.background_erasing, (0, None)))(keys, video))
  chosen, shares = [], []
  for clip in mixed:
    # Only the chosen frame is unchanged after blending.
    frame = int(np.argmin(np.abs(clip - video).max((1, 2, 3))))
    chosen.append(frame)
    shares.append(share_of(clip, video, video[frame]))
  np.testing.assert_allclose(np.bincount(chosen, minlength=4) / 400, 0.25, atol=0.08)
  np.testing.assert_allclose(np.histogram(shares, 3, (0, 0.3))[0] / 400, 1 / 3, atol=0.08)
  assert 0 <= min(shares) < max(shares) <= 0.3
  assert abs(np.corrcoef(chosen, shares)[0, 1]) < 0.15
  once = baselines.background_erasing(keys[0], video)
  np.testing.assert_allclose(once, mixed[0], atol=1e-6)
  double = baselines.background_erasing(keys[0], video, 0.6)
  np.testing.assert_allclose(double - video, 2 * (once - video), atol=1e-5)


def test_background_erasing_does_not_change_a_single_frame():
  video = random_video(np.random.default_rng(1), frames=1)
  out = baselines.background_erasing(jax.random.key(0), video)
  np.testing.assert_allclose(out, video, atol=1e-6)


def test_a_still_is_mixed_in_with_a_share_from_a_beta_distribution():
  rng = np.random.default_rng(2)
  video, frame = random_video(rng), random_video(rng, 1)[0]
  keys = jax.random.split(jax.random.key(0), 500)
  mix = jax.jit(jax.vmap(baselines.still_mix, (0, None, None, None, None)))
  mixed = np.asarray(mix(keys, video, frame, 2.0, 6.0))
  kept = np.array([1 - share_of(clip, video, frame) for clip in mixed])
  np.testing.assert_allclose(kept.mean(), 2 / 8, atol=0.03)
  np.testing.assert_allclose(kept.var(), 2 * 6 / (8**2 * 9), atol=0.005)
  alone = baselines.still_mix(keys[3], video, frame, 2.0, 6.0)
  np.testing.assert_allclose(alone, mixed[3], atol=1e-5)


def blurred(picture, radius):
  """Blurs f64[H, W] by a Gaussian; pixels beyond the border are mirrored."""
  height, width = picture.shape
  sigma = (2 * radius + 1) / 3
  out = np.zeros(picture.shape)
  for y, x in np.ndindex(height, width):
    total = weights = 0
    for dy in range(-radius, radius + 1):
      for dx in range(-radius, radius + 1):
        i, j = abs(y + dy), abs(x + dx)
        i, j = min(i, 2 * (height - 1) - i), min(j, 2 * (width - 1) - j)
        weight = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
        total, weights = total + weight * picture[i, j], weights + weight
    out[y, x] = total / weights
  return out


def fame_score(rgb, radius):
  """Returns FAME's score of pixels, for f64[T, H, W, 3] in [0, 1] without equal motions."""
  _, height, width, _ = rgb.shape
  movement = np.zeros((height, width))
  for t in range(len(rgb) - 1):
    movement += np.abs(rgb[t] - rgb[t + 1]).sum(-1)
  order = np.argsort(blurred(movement, radius), axis=None)
  bins = []
  for pixel in rgb.mean(0).reshape(-1, 3):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    x, y = saturation * np.cos(2 * np.pi * hue), saturation * np.sin(2 * np.pi * hue)
    # The nearest of 0 to 9; at the midpoint, and a thousandth before it, the upper one.
    bins.append(tuple(int(z * 9 + 0.501) for z in ((x + 1) / 2, (y + 1) / 2, value)))
  moving = [bins[index] for index in order[-(len(order) // 2) :]]
  still = [bins[index] for index in order[: len(order) // 10]]
  score = []
  for color in bins:
    foreground = moving.count(color) / len(moving)
    background = (still.count(color) + 1) / (len(still) + 1000)
    score.append(foreground / (foreground + background))
  return blurred(np.reshape(score, (height, width)), radius)


@pytest.mark.parametrize(('size', 'radius'), [((2, 8, 9), 0), ((3, 42, 20), 2)])
def test_fame_keeps_the_half_with_the_colors_of_what_moves(size, radius):
  rng = np.random.default_rng(3)
  ground = rng.random((1, *size[1:], 3)) * [0.5, 1, 0.5]
  rgb = np.clip(ground + 0.2 * rng.random((*size, 3)) ** 3, 0, 1)
  rgb[:, : size[1] // 2, :3] = rng.random((size[0], size[1] // 2, 3, 3))
  mask = np.asarray(foreground_of(normalized(rgb)))
  score = fame_score(rgb, radius)
  count = mask.size // 2
  assert mask.sum() == count
  least = np.sort(score, axis=None)[-count]
  # Pixels of equal rank may be ranked otherwise by rounding.
  assert mask[score > least + 1e-5].all()
  assert not mask[score < least - 1e-5].any()
  assert 0.2 * mask.size < (np.abs(score - least) > 1e-5).sum()


def test_fame_finds_what_moves_over_a_still_scene():
  rng = np.random.default_rng(4)
  rgb = np.broadcast_to(rng.random((1, 42, 20, 1)) * [0.3, 0.6, 0.3], (3, 42, 20, 3)).copy()
  for t in range(3):
    rgb[t, 8:26, 2 + t : 14 + t] = [0.9, 0.1, 0.1]
  mask = np.asarray(foreground_of(normalized(rgb)))
  assert mask[8:26, 4:14].mean() > 0.95


def test_among_equal_pixels_fame_takes_the_first():
  rgb = np.full((2, 8, 9, 3), 0.2)
  rgb[0, 5:7, 1:4] = rgb[1, 5:7, 5:8] = [0.9, 0.1, 0.5]
  moved = (rgb != 0.2).any((0, 3))
  rest = np.cumsum(~moved).reshape(8, 9) <= 36 - moved.sum()
  np.testing.assert_array_equal(foreground_of(normalized(rgb)), moved | rest & ~moved)


@pytest.mark.parametrize('frames', [1, 2])
def test_without_motion_all_pixels_are_foreground(frames):
  video = np.repeat(random_video(np.random.default_rng(5), 1, 8, 9), frames, axis=0)
  assert np.asarray(foreground_of(video)).all()


def test_fame_lays_its_foreground_over_the_other_clip():
  rng = np.random.default_rng(6)
  videos = normalized(rng.random((3, 2, 8, 9, 3)))
  mixed = np.asarray(jax.jit(jax.vmap(baselines.fame))(videos, videos[::-1]))
  for video, other, out in zip(videos, videos[::-1], mixed, strict=True):
    mask = np.asarray(foreground_of(video))
    for y, x in np.ndindex(8, 9):
      np.testing.assert_array_equal(out[:, y, x], (video if mask[y, x] else other)[:, y, x])
