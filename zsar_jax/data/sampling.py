"""Chooses the frames of a clip that the model sees."""

import numpy as np

# How evaluations choose frames, see `evaluation_indices`.
SAMPLINGS = ('segments', 'starts', 'ends')


def segment_indices(
  num_frames: int,
  num_segments: int,
  rng: np.random.Generator | None = None,
  offset: float = 0.5,
) -> np.ndarray:
  """Returns one frame from each of `num_segments` equal segments of a clip.

  Segment sampling is from Temporal Segment Networks (Wang et al., ECCV 2016): a random frame of
  each segment in training, the segment's center in validation. If a clip has fewer frames than
  segments, some frames are returned more than once.

  Args:
    num_frames: frames in the clip, at least 1.
    num_segments: frames to take.
    rng: draws an offset for each segment; None takes `offset` for all of them.
    offset: position in every segment, in [0, 1): 0.5 is the center.

  Returns:
    i64[num_segments], ascending, each in [0, num_frames).
  """
  offsets = np.full(num_segments, offset) if rng is None else rng.random(num_segments)
  return ((np.arange(num_segments) + offsets) * num_frames / num_segments).astype(np.int64)


def evaluation_indices(
  num_frames: int, count: int, sampling: str = 'segments', offset: float = 0.5
) -> np.ndarray:
  """Returns the frames of a clip that an evaluation uses.

  Args:
    num_frames: N, frames in the clip, at least 1.
    count: T, frames to take.
    sampling: 'segments' takes the frame at `offset` in each of T equal segments (TSN). 'starts'
      takes the first frame of each segment, floor(i N / T), as VideoPrism's and PE-Core's examples
      do. 'ends' takes the first and the last frame of the clip and evenly spaced ones in between,
      floor(i (N - 1) / (T - 1)), as PE-Core's evaluation does; the middle frame for T = 1.
    offset: see `segment_indices`.

  Returns:
    i64[T], ascending, each in [0, N).
  """
  if sampling == 'segments':
    return segment_indices(num_frames, count, offset=offset)
  if sampling == 'starts':
    return np.arange(count) * num_frames // count
  if count == 1:
    return np.array([num_frames // 2])
  return np.arange(count) * (num_frames - 1) // (count - 1)


def nearest_annotated(annotated: np.ndarray, indices: np.ndarray) -> np.ndarray:
  """Returns for each frame the nearest annotated one; of two as near, the earlier.

  Args:
    annotated: bool[N], for all frames of the clip; at least one is True.
    indices: i64[T], the frames.

  Returns:
    i64[T].
  """
  candidates = np.flatnonzero(annotated)
  return candidates[np.abs(indices[:, None] - candidates[None, :]).argmin(axis=1)]
