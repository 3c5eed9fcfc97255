"""Camera movements that are known, because the pictures are made with them."""

import cv2
import numpy as np
import pytest

from tests.mask_making.drawn_clips import textured_scene
from zsar_jax.mask_making.camera_motion import equalize_contrast, register

HEIGHT, WIDTH = 120, 170
CORNERS = np.array([[[0, 0]], [[WIDTH, 0]], [[WIDTH, HEIGHT]], [[0, HEIGHT]]], np.float64)


def _views(movement, seed=0, margin=90, noise=2.0):
  """Two pictures of a scene, the second moved by f64[3, 3], both with noise."""
  scene = textured_scene(seed, HEIGHT + 2 * margin, WIDTH + 2 * margin)
  to_picture = np.array([[1, 0, -margin], [0, 1, -margin], [0, 0, 1.0]])
  rng = np.random.default_rng(seed)
  pictures = []
  for transform in (to_picture, movement @ to_picture):
    picture = cv2.warpPerspective(scene, transform, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    noisy = picture + rng.normal(0, noise, picture.shape)
    pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
  return pictures


def _error(found, movement):
  """The largest error in pixels at the corners of the picture."""
  moved = [cv2.perspectiveTransform(CORNERS, transform) for transform in (found, movement)]
  return np.linalg.norm(moved[0] - moved[1], axis=2).max()


def _turn(degrees, scale=1.0, shift=(0, 0)):
  turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, scale)
  turn[:, 2] += shift
  return np.vstack([turn, [0, 0, 1]])


@pytest.mark.parametrize(
  ('movement', 'tolerance'),
  [
    (_turn(0), 0.0),
    (_turn(0, shift=(2.5, -1)), 0.15),
    (_turn(0, shift=(-60, 25)), 0.15),
    (_turn(0, shift=(85, 0)), 0.15),
    (_turn(6, scale=1.05, shift=(4, 9)), 0.5),
    (np.array([[1.02, 0.03, 5], [-0.02, 0.97, 3], [2e-4, 1e-4, 1]]), 0.7),
  ],
)
def test_movements_are_recovered(movement, tolerance):
  source, target = map(equalize_contrast, _views(movement))
  assert _error(register(source, target), movement) <= tolerance


@pytest.mark.parametrize('shift', [(0, 0), (3, 1)])
def test_a_person_of_strong_contrast_is_not_followed(shift):
  movement = _turn(0, shift=shift)
  pictures = _views(movement)
  for x, picture in zip((60, 68), pictures, strict=True):
    for row in range(0, HEIGHT, 12):  # Stripes over a fourth of the picture.
      picture[row : row + 6, x : x + 45] = (255, 240, 0)
      picture[row + 6 : row + 12, x : x + 45] = 0
  assert _error(register(*map(equalize_contrast, pictures)), movement) <= 0.2


def test_pictures_without_any_detail_do_not_move():
  flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
  noise = np.random.default_rng(0).integers(88, 93, flat.shape, np.uint8)
  for other in (flat, noise):
    found = register(equalize_contrast(flat), equalize_contrast(other))
    np.testing.assert_array_equal(found, np.eye(3))


def test_contrast_is_the_same_everywhere():
  scene = textured_scene(2, 200, 200).astype(np.float32) - 128
  strength = np.where(np.arange(200) < 100, 0.25, 1)[None, :, None]
  detail = equalize_contrast(np.clip(128 + strength * scene, 0, 255).astype(np.uint8))
  ratio = detail[:, :70].std() / detail[:, 130:].std()
  assert 0.5 < ratio < 1  # 0.25 in the scene.
