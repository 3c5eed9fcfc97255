"""Shares of the gradient of a linear model, whose gradient is its weights."""

import jax.numpy as jnp
import numpy as np

from zsar_jax.evaluation.saliency import region_shares
from zsar_jax.recipes.regions import OBJECT, PERSON, UNKNOWN_SHIFT

B, T, H, W = 3, 2, 6, 8


def test_shares_of_a_linear_model():
  rng = np.random.default_rng(0)
  weights = rng.normal(size=(4, T, H, W, 3)).astype(np.float32)
  video = rng.normal(size=(B, T, H, W, 3)).astype(np.float32)
  regions = rng.choice([0, PERSON, OBJECT, PERSON | OBJECT], (B, T, H, W)).astype(np.uint8)
  annotated = np.array([[True, True], [True, False], [False, False]])

  def score(video):
    return jnp.einsum('bthwc,kthwc->bk', video, weights)

  shares, areas = region_shares(score, video, regions, annotated)
  logits = np.einsum('bthwc,kthwc->bk', video, weights)
  for b in range(2):
    sums, counts = np.zeros(3), np.zeros(3)
    for t, y, x in np.ndindex(T, H, W):
      if annotated[b, t]:
        # A person takes precedence over an object.
        part = 0 if regions[b, t, y, x] & PERSON else 1 if regions[b, t, y, x] & OBJECT else 2
        sums[part] += np.abs(weights[logits[b].argmax(), t, y, x]).sum()
        counts[part] += 1
    np.testing.assert_allclose(shares[b], sums / sums.sum(), rtol=1e-5)
    np.testing.assert_allclose(areas[b], counts / counts.sum(), rtol=1e-6)
  assert np.isnan(shares[2]).all()
  # A frame whose objects are unknown has no known background; it is left out.
  unknown = regions.copy()
  unknown[0, 1] |= OBJECT << UNKNOWN_SHIFT
  expected, _ = region_shares(
    score, video, regions, annotated & [[True, False], [True] * 2, [True] * 2]
  )
  shares, _ = region_shares(score, video, unknown, annotated)
  np.testing.assert_array_equal(shares[:2], expected[:2])
