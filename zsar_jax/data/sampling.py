"""Which frames of a clip the model sees: TSN's segment sampling."""

import numpy as np


def segment_indices(
  num_frames: int,
  num_segments: int,
  rng: np.random.Generator | None = None,
  place: float = 0.5,
) -> np.ndarray:
  """One frame from each of `num_segments` equal segments of a clip.

  Segment sampling is from Temporal Segment Networks (Wang et al., ECCV 2016): a random place
  in each segment in training, the segment's center in validation. A clip with fewer frames
  than segments gives some of its frames more than once.

  Args:
    num_frames: frames in the clip, at least 1.
    num_segments: frames to take.
    rng: draws the places; None takes `place`.
    place: in [0, 1), of every segment: 0.5 is the center.

  Returns:
    i64[num_segments], ascending, each in [0, num_frames).
  """
  places = np.full(num_segments, place) if rng is None else rng.random(num_segments)
  return ((np.arange(num_segments) + places) * num_frames / num_segments).astype(np.int64)


def nearest_annotated(annotated: np.ndarray, indices: np.ndarray) -> np.ndarray:
  """For each frame, the nearest one that was annotated, the earlier of two as near.

  Args:
    annotated: bool[N], for all frames of the clip; at least one is True.
    indices: i64[T].

  Returns:
    i64[T].
  """
  known = np.flatnonzero(annotated)
  return known[np.abs(indices[:, None] - known[None, :]).argmin(axis=1)]
