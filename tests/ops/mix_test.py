"""Mixup and CutMix against their descriptions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.ops.mix import mix, random_box

B, T, H, W, C = 6, 3, 12, 16, 4


@pytest.fixture(name='batch')
def _batch():
  rng = np.random.default_rng(0)
  return (
    rng.normal(size=(B, T, H, W, 3)).astype(np.float32),
    rng.integers(0, 16, (B, T, H, W)).astype(np.uint8),
    rng.random((B, T)) < 0.8,
    np.eye(C, dtype=np.float32)[rng.integers(0, C, B)],
  )


def _mixed(batch, mixup, cutmix, seed=0):
  keys = jax.random.split(jax.random.key(seed), B)
  return [np.asarray(x) for x in jax.jit(mix, static_argnums=(5, 6))(keys, *batch, mixup, cutmix)]


def test_mixup_blends_pixels_and_labels_by_one_share(batch):
  video, regions, annotated, targets = batch
  out, planes, mixed_annotated, mixed = _mixed(batch, mixup=0.8, cutmix=0.0)
  shares = []
  for b in range(B):
    other = B - 1 - b
    share = np.sum((out[b] - video[other]) * (video[b] - video[other])) / np.sum(
      (video[b] - video[other]) ** 2
    )
    np.testing.assert_allclose(out[b], share * video[b] + (1 - share) * video[other], atol=1e-5)
    np.testing.assert_allclose(
      mixed[b], share * targets[b] + (1 - share) * targets[other], atol=1e-5
    )
    np.testing.assert_array_equal(planes[b], regions[b] | regions[other])
    np.testing.assert_array_equal(mixed_annotated[b], annotated[b] & annotated[other])
    shares.append(share)
  assert len(set(np.round(shares, 3))) == B  # Each clip has its own.
  assert 0 <= min(shares) < max(shares) <= 1


def test_cutmix_pastes_a_box_of_pixels_and_planes(batch):
  video, regions, _, targets = batch
  boxes = 0
  for seed in range(4):
    out, planes, _, mixed = _mixed(batch, mixup=0.0, cutmix=1.0, seed=seed)
    for b in range(B):
      other = B - 1 - b
      pasted = (out[b] == video[other]).all(axis=(0, 3))  # [H, W]
      kept = (out[b] == video[b]).all(axis=(0, 3))
      assert (pasted ^ kept).all()
      rows, columns = pasted.any(1), pasted.any(0)
      assert (pasted == rows[:, None] & columns[None, :]).all()
      for side in (rows, columns):  # One piece.
        assert np.count_nonzero(np.diff(np.pad(side.astype(int), 1))) in (0, 2)
      np.testing.assert_array_equal(planes[b], np.where(pasted, regions[other], regions[b]))
      share = kept.mean()
      np.testing.assert_allclose(
        mixed[b], share * targets[b] + (1 - share) * targets[other], atol=1e-5
      )
      boxes += pasted.any()
  assert boxes > 2 * B


def test_mixup_and_cutmix_are_equally_frequent(batch):
  is_cutmix = []
  for seed in range(30):
    out = _mixed(batch, mixup=0.8, cutmix=1.0, seed=seed)[0]
    is_cutmix += [
      ((out[b] == batch[0][b]) | (out[b] == batch[0][B - 1 - b])).all() for b in range(B)
    ]
  assert 0.35 < np.mean(is_cutmix) < 0.65


def test_boxes_have_the_given_area():
  keys = jax.random.split(jax.random.key(0), 500)
  for share in (0.36, 0.75, 1.0):
    boxes = jax.vmap(lambda key, share=share: random_box(key, 40, 60, jnp.float32(share)))(keys)
    areas = boxes.mean((1, 2))
    # The largest boxes are those that the border does not clip.
    assert areas.max() == pytest.approx(1 - share, abs=0.03)
    centers = (boxes * jnp.arange(60)).sum((1, 2)) / jnp.maximum(boxes.sum((1, 2)), 1)
    if share == 0.36:
      assert 20 < centers.mean() < 40
