"""Networks that compute in bfloat16, as on a GPU, have nearly the same masks as in float32."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('torchvision')
pytest.importorskip('transformers')

from tests.mask_making import tiny_text_models  # noqa: E402
from tests.mask_making.box_clips import rectangle  # noqa: E402
from tests.mask_making.tiny_sam import save_sam2, save_sam2_video  # noqa: E402
from zsar_jax.mask_making.loading import load_model  # noqa: E402
from zsar_jax.mask_making.sam3_text import SAM3_MODELS, Sam3Segmenter  # noqa: E402
from zsar_jax.mask_making.sam_boxes import open_box_segmenter  # noqa: E402
from zsar_jax.mask_making.sam_video import SamSession, load_tracker  # noqa: E402

_SIZE = (48, 37)
_BOX = (3.0, 4.0, 20.0, 30.0)


@pytest.fixture(name='frames')
def _frames():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*_SIZE, 3), np.uint8) for _ in range(4)]


def _assert_close(full, half):
  """Compares (mask or plane, score) of both precisions; rounding moves some scores a little."""
  assert len(full) == len(half)
  for (mask, score), (half_mask, half_score) in zip(full, half, strict=True):
    assert half_mask.dtype == mask.dtype
    assert np.mean(half_mask != mask) < 0.02
    assert half_score == pytest.approx(score, abs=0.01)
  assert any(
    not np.array_equal(mask, half_mask) or score != half_score
    for (mask, score), (half_mask, half_score) in zip(full, half, strict=True)
  )


def test_boxes(tmp_path, frames):
  segmenter = open_box_segmenter(str(save_sam2(tmp_path)), flag='--object', device='cpu')
  boxes = [np.array([_BOX]), np.zeros((0, 4)), np.array([_BOX, (1, 1, 30, 40)])]
  runs = []
  for half in (False, True):
    segmenter._loaded = dataclasses.replace(segmenter._loaded, half=half)
    results = segmenter(frames[:3], boxes)
    runs.append([pair for masks, scores in results for pair in zip(masks, scores, strict=True)])
  _assert_close(*runs)


def test_tracks(tmp_path, frames):
  loaded = load_tracker(str(save_sam2_video(tmp_path)), flag='--track', device='cpu')
  runs = []
  for half in (False, True):
    session = SamSession(dataclasses.replace(loaded, half=half), frames)
    steps = [
      session.add_boxes(1, {0: _BOX}),
      session.track(2),
      session.add_masks(2, {1: rectangle(*_SIZE, 3, 4, 23, 24)}),
      session.track(3),
      session.track(1, reverse=True),
      session.track(0, reverse=True),
    ]
    runs.append([(step[n].mask, step[n].score) for step in steps for n in sorted(step)])
  _assert_close(*runs)


def test_sam3(tmp_path, frames):
  folder = str(tiny_text_models.sam3(tmp_path))
  loaded = load_model(folder, SAM3_MODELS, flag='--text', device='cpu')
  runs = []
  for half in (False, True):
    segmenter = Sam3Segmenter(dataclasses.replace(loaded, half=half), 0.2)
    masks = segmenter(frames, {'hand': 'person', 'tea cup': 'object'})
    runs.append([(mask.plane, mask.score) for mask in masks])
  assert all(plane.any() for plane, _ in runs[0])
  _assert_close(*runs)
