"""Flips of clips and of labels that name sides."""

import jax
import numpy as np

from zsar_jax.ops.geometric import NO_MIRROR, flip, mirror_labels


def test_mirror_labels():
  classes = [
    'pushing something from left to right',
    'pushing something from right to left',
    'Leftover soup',
    'Turning left',
    'Turning right',
    'moving something to the left',
  ]
  assert mirror_labels(classes).tolist() == [1, 0, 2, 4, 3, NO_MIRROR]
  pairs = [('turn_left', 'turn_right'), ('TurnLeft', 'TurnRight'), ('WAVE_LEFT', 'WAVE_RIGHT')]
  pairs += [('leftHandUp', 'rightHandUp'), ('left-hand up', 'right-hand up')]
  assert mirror_labels(sum(pairs, ())).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
  assert mirror_labels(['bright light', 'UPRIGHT', 'Cleft_lip', 'turn_left']).tolist() == [
    *(0, 1, 2, NO_MIRROR)
  ]


def test_flip_moves_frames_planes_and_label_together():
  rng = np.random.default_rng(4)
  frames = rng.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
  regions = rng.integers(0, 16, (3, 5, 6), dtype=np.uint8)
  mirrored = np.array([1, 0, NO_MIRROR], np.int32)
  for label, expected in ((0, 1), (1, 0)):
    flipped = flip(jax.random.key(0), frames, regions, np.int32(label), mirrored, 1.0)
    np.testing.assert_array_equal(flipped[0], frames[:, :, ::-1])
    np.testing.assert_array_equal(flipped[1], regions[:, :, ::-1])
    assert flipped[2] == expected
  flipped = flip(jax.random.key(0), frames, regions, np.int32(2), mirrored, 1.0)
  np.testing.assert_array_equal(flipped[0], frames)
  assert flipped[2] == 2
