"""Clips for makers that need no weights, from drawn frames."""

import numpy as np

from zsar_jax.data import records
from zsar_jax.datasets.video import VideoFacts, make_thumbnail
from zsar_jax.mask_making.maker import MakerClip, StoredFrames

# Of the stored frames.
QUALITY = 95


def make_clip(frames, kept=None, quality=QUALITY):
  """Returns the `MakerClip` of u8[K, H, W, 3] frames; `kept` are their numbers in the video."""
  kept = np.arange(len(frames)) if kept is None else np.array(kept)
  height, width = frames[0].shape[:2]
  thumbnails = np.stack([make_thumbnail(frame) for frame in frames])
  facts = VideoFacts(int(kept[-1]) + 1, kept, height, width, height, width, thumbnails)
  jpegs = list(records.encode_frames(frames, quality))
  return MakerClip('archery/clip', StoredFrames(jpegs), facts, fps=8.0)


def textured_scene(seed, height, width):
  """Returns u8[H, W, 3], colored noise of several sizes of grain."""
  rng = np.random.default_rng(seed)
  scene = np.full((height, width, 3), 128.0)
  for grain in (4, 16, 48):
    cells = rng.normal(size=(height // grain + 2, width // grain + 2, 3))
    rows, columns = np.arange(height) / grain, np.arange(width) / grain
    down, right = rows.astype(int), columns.astype(int)
    y, x = (rows - down)[:, None, None], (columns - right)[None, :, None]
    upper = cells[down][:, right] * (1 - x) + cells[down][:, right + 1] * x
    lower = cells[down + 1][:, right] * (1 - x) + cells[down + 1][:, right + 1] * x
    scene += 22 * (upper * (1 - y) + lower * y)
  return np.clip(scene, 0, 255).astype(np.uint8)
