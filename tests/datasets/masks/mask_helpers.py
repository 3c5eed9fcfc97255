"""Helpers for tests of mask sources: a clip, a video, and planes drawn in one call."""

from collections.abc import Callable

import numpy as np

from zsar_jax.data.records import ClipError
from zsar_jax.datasets.masks.source import MaskSource, Remarks
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import THUMBNAIL_SIDE, VideoFacts

# Not square, so that a transposed mask differs.
HEIGHT, WIDTH = 24, 36


def clip(name: str = 'arm wrestling/clip_7', clip_id: str | None = None) -> ListedClip:
  return ListedClip(id=clip_id or name, label=0, path='unused', name=name)


def video(
  num_frames: int = 3,
  kept: list[int] | None = None,
  size: tuple[int, int] = (HEIGHT, WIDTH),
  source: tuple[int, int] | None = None,
  numbers: list[int] | None = None,
) -> VideoFacts:
  num_frames = num_frames if numbers is None else len(numbers)
  kept = range(num_frames) if kept is None else kept
  own = None if numbers is None else np.array(numbers)
  thumbnails = np.zeros((len(kept), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
  sizes = *size, *(source or size)
  return VideoFacts(num_frames, np.array(kept, np.int64), *sizes, thumbnails, own)


def planes(
  source: MaskSource, facts: VideoFacts | None = None, of: ListedClip | None = None
) -> tuple[list[np.ndarray | None], Remarks]:
  """Returns a clip's planes, and the remarks at the time of the last plane."""
  facts = facts or video()
  remarks = {}
  masks = source.for_clip(of or clip())
  iterator = masks.planes(facts, remarks)
  drawn = [next(iterator) for _ in facts.kept]
  # The frames that the masks claim to annotate before any mask is decoded.
  annotated = set(masks.annotated_frames(facts.num_frames, facts.numbers))
  assert annotated <= set(range(facts.num_frames))
  annotated_kept = {
    n for n, plane in zip(facts.kept.tolist(), drawn, strict=True) if plane is not None
  }
  assert annotated_kept <= annotated
  assert 'shapes left out' in remarks or annotated_kept == annotated.intersection(
    facts.kept.tolist()
  )
  for plane in drawn:
    if plane is not None:
      assert plane.dtype == np.uint8
      assert plane.shape == (facts.height, facts.width)
  return drawn, dict(remarks)


def blob(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
  """Returns bool[height, width], a rectangle and some noise, neither empty nor full."""
  rng = np.random.default_rng(seed)
  mask = rng.random((height, width)) < 0.1
  top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
  mask[top : top + height // 3, left : left + width // 4] = True
  mask[0, 0] = False
  return mask


def refusal(draw: Callable[[], object]) -> str | None:
  """Returns the reason of the `ClipError` that `draw` raises, or None if it raises none."""
  try:
    draw()
  except ClipError as error:
    return error.reason
  return None
