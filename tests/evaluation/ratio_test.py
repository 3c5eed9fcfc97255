"""Ratios of sums over clips."""

import numpy as np

from zsar_jax.evaluation.ratio import Ratio, stack_seeds


def test_seeds_are_stacked():
  first = Ratio(np.array([1.0, 0, 1]), np.array([1.0, 1, 0]))
  second = Ratio(np.array([1.0, 1, 0]), np.array([1.0, 1, 0]))
  both = stack_seeds([first, second])
  assert both.numerator.shape == both.denominator.shape == (2, 3)
  assert both.per_seed.tolist() == [1.0, 1.0]
  nothing = Ratio(np.zeros(3), np.zeros(3))
  assert np.isnan(nothing.value)
  assert np.isnan(stack_seeds([first, nothing]).value)
  half = Ratio(np.array([1.0, 0, 0]), np.array([1.0, 1, 0]))
  assert stack_seeds([first, half]).value == 0.75
  assert stack_seeds([first, half]).counted_clips.tolist() == [True, True, False]
