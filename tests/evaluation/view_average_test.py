"""Means over views against exact values."""

import numpy as np

from zsar_jax.evaluation.view_average import ViewAverage


def test_probabilities_that_underflow():
  """Logits as far apart as CLIP's scale of 100 allows, where a softmax in f32 has zeros."""
  logits = np.array([[100, -100], [-100, 100], [100, -100]], np.float32)
  average = ViewAverage(clips=2, classes=2, views=3, mean='probabilities')
  average.add(np.array([1, 1, 1]), logits)
  np.testing.assert_allclose(average.logits[1], np.log([2 / 3, 1 / 3]), rtol=1e-6)
  average = ViewAverage(clips=1, classes=2, views=2, mean='probabilities')
  average.add(np.array([0, 0]), logits[[0, 0]])
  np.testing.assert_allclose(average.logits, [[0, -200]], atol=1e-5)


def test_a_clip_with_a_view_that_is_not_finite_has_no_finite_logits():
  views = np.array([[np.nan, 0], [100, -100]], np.float32)
  for order in ([0, 1], [1, 0]):
    average = ViewAverage(clips=1, classes=2, views=2, mean='probabilities')
    average.add(np.array([0, 0]), views[order])
    assert not np.isfinite(average.logits).any()


def test_a_single_view_keeps_its_bits():
  logits = np.array([[0.1, -7.3], [1e-30, np.nan]], np.float32)
  for mean in ('probabilities', 'logits'):
    average = ViewAverage(clips=3, classes=2, views=1, mean=mean)
    average.add(np.array([2, 0]), logits)
    np.testing.assert_array_equal(average.logits[[2, 0]], logits)
    assert np.isnan(average.logits[1]).all()
