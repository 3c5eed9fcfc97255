"""Packed batches have the arrays of stacked clips, in one block."""

import numpy as np
import pytest

from zsar_jax.data import batch
from zsar_jax.data.shared_memory import SharedBatches, pack_clips


def make_clips(count, partners):
  """Returns random clips with all fields of a batch, of odd sizes."""
  rng = np.random.default_rng(0)
  clips = []
  for _ in range(count):
    clip = {}
    for name, field in batch.fields(True, partners, True, True).items():
      shape = field.sizes(B=1, T=3, S=5)[1:]
      clip[name] = rng.integers(0, 2, shape).astype(field.dtype)[()]
    clips.append(clip)
  return clips


class Packed:
  """Batches as a worker hands them over."""

  def __init__(self, *batches):
    self.batches = list(batches)

  def __next__(self):
    return self.batches.pop(0)


@pytest.mark.parametrize('count', [1, 4])
@pytest.mark.parametrize('partners', [False, True])
def test_packed_clips_are_stacked_clips(count, partners):
  clips = make_clips(count, partners)
  packed = pack_clips(clips)
  assert packed['block'].dtype == np.uint8
  unpacked = next(SharedBatches(Packed(packed)))
  assert list(unpacked) == list(clips[0])
  for name, array in unpacked.items():
    expected = np.stack([clip[name] for clip in clips])
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)
    assert (array.ctypes.data - packed['block'].ctypes.data) % 64 == 0


def test_clips_of_different_shapes_are_refused():
  first, second = make_clips(2, False)
  second['frames'] = second['frames'][:2]
  with pytest.raises(ValueError, match='shape'):
    pack_clips([first, second])
