"""Masks of SAM 3 are those of transformers."""

import numpy as np
import pytest

pytest.importorskip('torchvision')
transformers = pytest.importorskip('transformers')

import torch  # noqa: E402

from tests.mask_making import tiny_text_models  # noqa: E402
from zsar_jax.mask_making.loading import load_model  # noqa: E402
from zsar_jax.mask_making.sam3_text import SAM3_MODELS, Sam3Segmenter  # noqa: E402

SIZES = [(40, 60), (60, 30)]
PHRASES = {'hand': 'person', 'tea cup': 'object', 'finger': 'person'}


@pytest.fixture(name='frames')
def _frames():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def load(folder):
  return load_model(str(folder), SAM3_MODELS, flag='--text', device='cpu')


@pytest.mark.parametrize('save', [tiny_text_models.sam3, tiny_text_models.sam3_video])
def test_masks_are_those_of_transformers(tmp_path, frames, save):
  folder = save(tmp_path)
  model = transformers.Sam3Model.from_pretrained(folder).eval()
  processor = transformers.Sam3Processor.from_pretrained(folder)
  outputs = {}
  for phrase in PHRASES:
    inputs = processor(images=frames, text=[phrase] * 2, return_tensors='pt')
    sizes = inputs.pop('original_sizes').tolist()
    with torch.inference_mode():
      outputs[phrase] = model(**inputs)
  assert sizes == [list(size) for size in SIZES]
  # The scores of the random weights differ by little. Half of the instances are above the median.
  threshold = float(
    np.median([(o.pred_logits.sigmoid() * o.presence_logits.sigmoid()) for o in outputs.values()])
  )
  planes = [np.zeros(size, np.uint8) for size in SIZES]
  people, scores = [0, 0], [[], []]
  for phrase, output in outputs.items():
    results = processor.post_process_instance_segmentation(
      output, threshold=threshold, target_sizes=SIZES
    )
    for index, result in enumerate(results):
      for mask, score in zip(result['masks'].numpy(), result['scores'].tolist(), strict=True):
        planes[index][mask > 0] |= {'person': 1, 'object': 2}[PHRASES[phrase]]
        people[index] += PHRASES[phrase] == 'person'
        scores[index] += [score] if mask.any() else []
  assert all(0 < count < 10 for count in people)
  results = Sam3Segmenter(load(folder), threshold)(frames, PHRASES)
  for result, plane, count, own in zip(results, planes, people, scores, strict=True):
    np.testing.assert_array_equal(result.plane, plane)
    assert set(np.unique(plane)) > {0, 1, 3}
    assert result.people == count
    assert result.score == min(own)
    assert np.isnan(result.outside)


def test_scores_and_people_are_those_of_the_instances(tmp_path, frames, monkeypatch):
  loaded = load(tiny_text_models.sam3(tmp_path))
  masks = torch.zeros(3, *SIZES[0])
  masks[0, 5:9, 3:7] = masks[1, 8:12, 3:7] = 1
  result = {'masks': masks, 'scores': torch.tensor([0.9, 0.8, 0.4])}
  monkeypatch.setattr(
    loaded.processor.image_processor, 'post_process_instance_segmentation', lambda *a, **k: [result]
  )
  (mask,) = Sam3Segmenter(loaded)(frames[:1], {'hand': 'person', 'cup': 'object'})
  plane = np.zeros(SIZES[0], np.uint8)
  plane[5:12, 3:7] = 3
  np.testing.assert_array_equal(mask.plane, plane)
  # The third instance is empty at the size of the frame, so that its score does not count.
  assert (mask.people, mask.score) == (3, pytest.approx(0.8))


def test_frames_without_instances_are_empty(tmp_path, frames):
  for result in Sam3Segmenter(load(tiny_text_models.sam3(tmp_path)), 0.9)(frames, PHRASES):
    assert not result.plane.any()
    assert result.people == 0
    assert np.isnan(result.score)


def test_texts_longer_than_the_model_reads_are_cut(tmp_path, frames):
  # Each letter is a token of the tiny tokenizer, and the model reads 32.
  segmenter = Sam3Segmenter(load(tiny_text_models.sam3(tmp_path)), 0.2)
  results = segmenter(frames, {'x' * 60: 'object'})
  assert [result.plane.shape for result in results] == SIZES
