"""Backgrounds against references that loop over pixels."""

import cmath

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.ops import backgrounds
from zsar_jax.ops.backgrounds import (
  centroid_shift,
  draw_stripes,
  empty_scene,
  fill_holes,
  shift,
  swap_background,
  widen,
)
from zsar_jax.recipes.regions import OBJECT, PERSON, PERSON_BOX

SIZES = [(1, 1, 1), (1, 1, 6), (2, 7, 5), (3, 8, 8)]


def filled(frame, holes):
  """One frame, f64[H, W, 3], filled as the docstring of `fill_holes` says."""
  height, width = holes.shape
  if height == width == 1:
    return np.where(holes[..., None], 0, frame)
  rows, columns = (height + 1) // 2, (width + 1) // 2
  small, unknown = np.zeros((rows, columns, 3)), np.ones((rows, columns), bool)
  for y, x in np.ndindex(rows, columns):
    four = [(i, j) for i in (2 * y, 2 * y + 1) for j in (2 * x, 2 * x + 1)]
    known = [frame[i, j] for i, j in four if i < height and j < width and not holes[i, j]]
    if known:
      small[y, x], unknown[y, x] = np.mean(known, axis=0), False
  small = filled(small, unknown)
  result = frame.copy()
  for y, x in np.argwhere(holes):
    # A pixel lies a quarter of a coarse pixel from the center of its own coarse pixel.
    total = 0
    for down, weight in ((0, 0.75), (1 if y % 2 else -1, 0.25)):
      for right, share in ((0, 0.75), (1 if x % 2 else -1, 0.25)):
        # Beyond the border the last pixel is repeated.
        i = min(max(y // 2 + down, 0), (2 * rows - 1) // 2)
        j = min(max(x // 2 + right, 0), (2 * columns - 1) // 2)
        total = total + weight * share * small[i, j]
    result[y, x] = total
  return result


def random_clip(rng, frames, height, width, share=0.4):
  return (
    rng.normal(size=(frames, height, width, 3)).astype(np.float32),
    rng.random((frames, height, width)) < share,
  )


@pytest.mark.parametrize('size', SIZES)
def test_holes_are_filled_from_coarser_pictures(size):
  rng = np.random.default_rng(0)
  fill = jax.jit(fill_holes)
  for share in (0.0, 0.5, 0.95, 1.0):
    video, holes = random_clip(rng, *size, share=share)
    out = np.asarray(fill(video, holes))
    np.testing.assert_array_equal(out[~holes], video[~holes])
    expected = [filled(frame.astype(float), hole) for frame, hole in zip(video, holes, strict=True)]
    np.testing.assert_allclose(out, expected, atol=1e-5)
  assert not out.any()  # With the last share, the entire frame is a hole.


def test_the_content_of_a_hole_does_not_matter():
  video, holes = random_clip(np.random.default_rng(1), 2, 7, 5)
  fill = jax.jit(fill_holes)
  hidden = np.where(holes[..., None], np.nan, video)
  np.testing.assert_array_equal(fill(video, holes), fill(hidden, holes))


def test_a_hole_in_a_slope_is_filled_smoothly():
  slope = np.broadcast_to(np.linspace(0, 1, 33)[None, :, None, None], (1, 33, 33, 3))
  holes = np.zeros((1, 33, 33), bool)
  holes[:, 10:23, 8:25] = True
  out = np.asarray(jax.jit(fill_holes)(slope.astype(np.float32), holes))
  assert np.abs(np.diff(out, axis=1)).max() < 0.12  # Nearest pixels would jump by 0.2 and more.
  np.testing.assert_allclose(out, slope, atol=0.25)


def test_widening_dilates_by_the_given_steps():
  rng = np.random.default_rng(2)
  mask = rng.random((2, 9, 7)) < 0.06
  for steps in (0, 1, 3):
    expected = np.zeros_like(mask)
    for t, y, x in np.ndindex(mask.shape):
      ones = np.argwhere(mask[t])
      expected[t, y, x] = (np.abs(ones - (y, x)).sum(1) <= steps).any()
    np.testing.assert_array_equal(widen(mask, steps), expected)


def test_the_shift_joins_centroids_of_the_first_frames_with_a_figure():
  mask, other = np.zeros((3, 9, 12), bool), np.zeros((3, 9, 12), bool)
  mask[1, 2:5, 1:4] = True  # Centroid (3, 2).
  mask[2, 8, 11] = True
  other[0, 6, 7:11] = True  # Centroid (6, 8.5).
  other[0, 8, 7:11] = True  # Together (7, 8.5).
  for moved in (centroid_shift, jax.jit(centroid_shift)):  # 4 and 6.5.
    np.testing.assert_array_equal(moved(mask, other), [4, 7])
    np.testing.assert_array_equal(moved(other, mask), [-4, -6])
  assert centroid_shift(mask, other).dtype == jnp.int32
  for empty in (centroid_shift(mask, mask & False), centroid_shift(mask & False, mask)):
    np.testing.assert_array_equal(empty, [0, 0])


@pytest.mark.parametrize('by', [(0, 0), (2, -1), (-3, 4), (7, 0), (-9, 30)])
def test_shifting_moves_pixels_and_fills_with_zeros(by):
  rng = np.random.default_rng(3)
  video = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
  planes = rng.integers(1, 16, (2, 5, 7), dtype=np.uint8)
  for x in (video, planes):
    expected = np.zeros_like(x)
    for row, column in np.ndindex(5, 7):
      if 0 <= row + by[0] < 5 and 0 <= column + by[1] < 7:
        expected[:, row + by[0], column + by[1]] = x[:, row, column]
    moved = jax.jit(shift)(x, jnp.array(by))
    assert moved.dtype == x.dtype
    np.testing.assert_array_equal(moved, expected)


def swapped(video, regions, other_video, other_regions):
  """The swap, written from its description as a loop over pixels."""
  figure, other = (regions & 3) != 0, (other_regions & 3) != 0
  size = figure.shape[1:]
  by = np.zeros(2, int)
  if figure.any() and other.any():
    first = [np.argwhere(next(frame for frame in mask if frame.any())) for mask in (figure, other)]
    by = np.floor(first[1].mean(0) - first[0].mean(0) + 0.501).astype(int)
  out, planes = np.zeros(video.shape), np.zeros_like(regions)
  for t in range(len(video)):
    hole = other[t].copy()
    for y, x in np.argwhere(other[t]):  # At these sizes the rim is one pixel.
      for i, j in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= i < size[0] and 0 <= j < size[1]:
          hole[i, j] = True
    out[t] = filled(other_video[t].astype(float), hole)
    for y, x in np.ndindex(size):
      i, j = y - by[0], x - by[1]
      if 0 <= i < size[0] and 0 <= j < size[1]:
        planes[t, y, x] = regions[t, i, j]
        if figure[t, i, j]:
          out[t, y, x] = video[t, i, j]
  return out, planes


def random_pair(rng, frames, height, width):
  pair = []
  for _ in range(2):
    video, _ = random_clip(rng, frames, height, width)
    regions = np.zeros((frames, height, width), np.uint8)
    top, left = rng.integers(0, (height + 1) // 2), rng.integers(0, (width + 1) // 2)
    regions[:, top : top + 3, left : left + 2] = PERSON | PERSON_BOX
    regions[-1, top : top + 1, left : left + 4] |= OBJECT
    pair += [video, regions]
  return pair


def swap_clips(video, regions, other_video, other_regions):
  scene = empty_scene(other_video, other_regions)
  return swap_background(video, regions, scene, other_regions)


def test_figures_are_put_into_the_other_scene():
  rng = np.random.default_rng(4)
  swap = jax.jit(swap_clips)
  pairs = [random_pair(rng, 3, 8, 11) for _ in range(4)]
  pairs[1][1][:] = 0  # Without people, the scene alone is left.
  pairs[2][3][:] = 0  # Nobody is removed, and there is no shift.
  pairs[3][3][:] = OBJECT  # No scene.
  for pair in pairs:
    video, regions = swap(*pair)
    expected_video, expected_regions = swapped(*pair)
    np.testing.assert_allclose(video, expected_video, atol=1e-5)
    np.testing.assert_array_equal(regions, expected_regions)
  single = random_pair(rng, 1, 9, 6)
  for result, expected in zip(swap(*single), swapped(*single), strict=True):
    np.testing.assert_allclose(result, expected, atol=1e-5)

  stacked = [np.stack(x) for x in zip(*pairs, strict=True)]
  batch_video, batch_regions = jax.jit(jax.vmap(swap_clips))(*stacked)
  for pair, video, regions in zip(pairs, batch_video, batch_regions, strict=True):
    single_video, single_regions = swap(*pair)
    np.testing.assert_allclose(video, single_video, atol=1e-6)
    np.testing.assert_array_equal(regions, single_regions)


def test_stripes_agree_with_a_loop_over_stripes(monkeypatch):
  half_width, spacing, amplitude, wavelength = 8.0, 4.0, 30.0, 120.0
  phase, angle, ground = 1.0, 2.5, np.array([0.9, 0.2, 0.4])
  drawn = {
    (4,): np.array([half_width, spacing, amplitude, wavelength]),
    (2,): np.array([phase, angle]),
    (3,): ground,
  }
  monkeypatch.setattr(jax.random, 'uniform', lambda key, shape, **_: jnp.array(drawn[shape]))
  height, width = 40, 64  # One pixel is 4 of the description's.
  picture = np.asarray(draw_stripes(jax.random.key(0), height, width))
  expected = np.empty((height, width, 3))
  for row, column in np.ndindex(height, width):
    point = complex(4 * (column - 31.5), 4 * (row - 19.5)) * cmath.exp(-1j * angle)
    x, y = point.real + 192, point.imag + 192
    curve = amplitude * np.sin(2 * np.pi / wavelength * x + phase) + 128
    middles = curve + spacing * half_width * np.arange(-40, 40)
    inside = (np.abs(y - middles) <= half_width).any()
    expected[row, column] = 1 - ground if inside else ground
  assert (np.abs(picture - expected) < 1e-6).all(-1).mean() > 0.998  # Rounding at the edges.


def test_stripes_have_two_colors_that_the_key_draws():
  keys = jax.random.split(jax.random.key(1), 300)
  draw = jax.jit(jax.vmap(lambda key: draw_stripes(key, 24, 24)))
  pictures = np.asarray(draw(keys))
  assert pictures.min() >= 0
  assert pictures.max() <= 1
  shares = []
  grounds = jax.vmap(lambda key: jax.random.uniform(jax.random.split(key, 3)[0], (3,)))(keys)
  for ground, picture in zip(np.asarray(grounds), pictures, strict=True):
    colors, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    np.testing.assert_allclose(colors.sum(0), 1, atol=1e-6)
    striped = np.abs(colors - (1 - ground)).max(1) < 1e-6
    shares.append(counts[striped].sum() / counts.sum())
  # A stripe is two half-widths of three to five: of 2 / U(3, 5) the mean is log(5 / 3).
  np.testing.assert_allclose(np.mean(shares), np.log(5 / 3), atol=0.02)
  np.testing.assert_array_equal(draw(keys), pictures)
  assert len(np.unique(pictures[:, 0, 0], axis=0)) == len(keys)


def test_stripes_scale_with_the_picture_and_are_cropped_if_it_is_not_square():
  draw = jax.jit(draw_stripes, static_argnums=(1, 2))
  sizes = [(32, 32), (96, 96), (20, 32), (32, 8)]
  small, large, wide, high = (np.asarray(draw(jax.random.key(2), *size)) for size in sizes)
  assert (small == large[1::3, 1::3]).all(-1).mean() > 0.99
  assert (wide == small[6:26]).all(-1).mean() > 0.99
  assert (high == small[:, 12:20]).all(-1).mean() > 0.99


def test_the_ranges_are_those_of_the_description():
  assert backgrounds._HALF_WIDTH == (5, 20)
  assert backgrounds._SPACING == (3, 5)
  assert backgrounds._AMPLITUDE == (10, 110)
  assert backgrounds._WAVELENGTH == (4, 1004)
