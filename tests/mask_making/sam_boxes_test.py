"""Tests of zsar_jax.mask_making.sam_boxes."""

import numpy as np
import pytest

pytest.importorskip('torchvision')
transformers = pytest.importorskip('transformers')

import torch  # noqa: E402

from tests.mask_making.box_clips import box_clip, person, thing  # noqa: E402
from tests.mask_making.tiny_sam import save_sam2, save_sam2_video  # noqa: E402
from zsar_jax.mask_making import sam_boxes  # noqa: E402
from zsar_jax.mask_making.box_maker import BoxesSpec  # noqa: E402
from zsar_jax.mask_making.sam_boxes import open_box_segmenter  # noqa: E402
from zsar_jax.recipes.regions import OBJECT, PERSON  # noqa: E402

_SIZES = ((48, 36), (40, 70), (48, 36))
_BOXES = (
  [[3, 4, 20, 30], [5, 5, 9, 9.5], [0, 0, 36, 48]],
  [],
  [[10.5, 2, 30, 40]],
)


def _frames() -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*size, 3), np.uint8) for size in _SIZES]


@pytest.mark.parametrize('save', [save_sam2, save_sam2_video])
def test_masks_are_those_of_transformers(tmp_path, monkeypatch, save):
  folder = save(tmp_path / 'sam')
  model = transformers.Sam2Model.from_pretrained(folder).eval()
  processor = transformers.Sam2Processor.from_pretrained(folder)
  segmenter = open_box_segmenter(str(folder), flag='--object', device='cpu')
  encoded = []
  encode = transformers.Sam2Model.get_image_embeddings

  def counting(model, pixels):
    encoded.append(len(pixels))
    return encode(model, pixels)

  monkeypatch.setattr(transformers.Sam2Model, 'get_image_embeddings', counting)
  frames = _frames()
  # Two boxes at a time: those of a frame are split, and decoded with those of another frame.
  monkeypatch.setattr(sam_boxes, '_BOXES', 2)
  results = segmenter(frames, [np.array(own, float) for own in _BOXES])
  assert encoded == [2]
  assert segmenter.provenance['model'] == 'sam'
  assert segmenter.provenance['licenses']['code'] == 'Apache-2.0'
  for frame, boxes, (masks, scores) in zip(frames, _BOXES, results, strict=True):
    assert masks.shape == (len(boxes), *frame.shape[:2])
    assert (masks.dtype, scores.dtype) == (np.bool_, np.float32)
    for box, mask, score in zip(boxes, masks, scores, strict=True):
      inputs = processor(images=frame, input_boxes=[[box]], return_tensors='pt')
      sizes = inputs.pop('original_sizes')
      with torch.inference_mode():
        output = model(**inputs, multimask_output=False)
      (expected,) = processor.post_process_masks(output.pred_masks, sizes)
      np.testing.assert_array_equal(mask, expected[0, 0].numpy())
      assert score == pytest.approx(output.iou_scores.item(), abs=1e-6)
  # The random weights give masks that differ from box to box, and are neither empty nor full.
  shares = [mask.mean() for masks, _ in results for mask in masks]
  assert len(set(shares)) == 4
  assert all(0.1 < share < 0.9 for share in shares)


def test_frames_without_boxes_do_not_reach_the_network(tmp_path, monkeypatch):
  segmenter = open_box_segmenter(str(save_sam2(tmp_path)), flag='--object', device='cpu')
  monkeypatch.delattr(transformers.Sam2Model, 'get_image_embeddings')
  (masks, scores), *_ = segmenter(_frames()[:1], [np.zeros((0, 4))])
  assert masks.shape == (0, 48, 36)
  assert scores.shape == (0,)


def test_maker_of_boxes(tmp_path):
  boxes = [[person(3, 4, 20, 30), thing(5, 5, 30, 40)], None, [], [person(10, 2, 30, 40)]]
  clip = box_clip([_frames()[0]] * 4, boxes)
  maker = BoxesSpec(
    str(save_sam2_video(tmp_path / 'sam')), ('person', 'object'), device='cpu'
  ).open()
  masks = list(maker.make([clip]))
  assert masks[1] is None
  assert not masks[2].plane.any()
  assert (masks[0].people, masks[3].people) == (1, 1)
  drawn = [np.bitwise_or.reduce(masks[index].plane, axis=None) for index in (0, 3)]
  assert drawn == [PERSON | OBJECT, PERSON]
  assert all(0 < masks[index].score < 1 for index in (0, 3))
  assert maker.provenance['model_type'] == 'sam2_video'
