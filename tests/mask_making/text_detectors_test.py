"""Detectors of phrases return the boxes of transformers, each with its phrase."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('torchvision')
transformers = pytest.importorskip('transformers')

import torch  # noqa: E402

from tests.mask_making import tiny_text_models  # noqa: E402
from zsar_jax.mask_making.loading import load_model  # noqa: E402
from zsar_jax.mask_making.text_detectors import (  # noqa: E402
  DETECTORS,
  create_detector,
  split_phrases,
)

PHRASES = ('hand', 'green tea box', 'xyz cups')
# The phrase of each word as the tokenizer of the tiny Grounding DINO returns it.
WORDS = {'hand': 0, 'green': 1, 'tea': 1, 'box': 1, '[UNK]': 2, 'cup': 2, '##s': 2}

MODELS = {
  'grounding-dino': tiny_text_models.grounding_dino,
  'mm-grounding-dino': lambda folder: tiny_text_models.grounding_dino(folder, mm=True),
  'owlv2': tiny_text_models.owl,
  'owlvit': lambda folder: tiny_text_models.owl(folder, version2=False),
}


@pytest.fixture(name='frames')
def _frames():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, size, np.uint8) for size in ((40, 60, 3), (60, 30, 3))]


def load(folder):
  return load_model(str(folder), DETECTORS, flag='--text', device='cpu')


def reference(folder, model_type, frames, half=False):
  """Returns the processor, the outputs and the settings of post-processing of transformers."""
  model = getattr(transformers, DETECTORS[model_type].model).from_pretrained(folder).eval()
  processor = transformers.AutoProcessor.from_pretrained(folder)
  # Grounding DINO's processor joins the phrases of a frame.
  texts = [list(PHRASES)] * len(frames)
  inputs = processor(images=frames, text=texts, return_tensors='pt')
  with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=half):
    output = model(**inputs)
  output.logits, output.pred_boxes = output.logits.float(), output.pred_boxes.float()
  threshold = float(output.logits.amax(-1).sigmoid().median())
  sizes = [frame.shape[:2] for frame in frames]
  return processor, output, threshold, sizes


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize('model_type', MODELS)
def test_boxes_and_scores_are_those_of_transformers(tmp_path, frames, model_type, half):
  folder = MODELS[model_type](tmp_path)
  processor, output, threshold, sizes = reference(folder, model_type, frames, half)
  expected = processor.post_process_grounded_object_detection(
    output, threshold=threshold, target_sizes=sizes
  )
  loaded = dataclasses.replace(load(folder), half=half)
  detector, used = create_detector(loaded, threshold)
  assert used == threshold
  results = detector(frames, PHRASES)
  assert 0 < sum(len(result.scores) for result in results) < output.logits.shape[1] * len(frames)
  for result, own in zip(results, expected, strict=True):
    np.testing.assert_array_equal(result.boxes, own['boxes'].numpy())
    np.testing.assert_array_equal(result.scores, own['scores'].numpy())
    if model_type.startswith('owl'):
      np.testing.assert_array_equal(result.phrases, own['labels'].numpy())


@pytest.mark.parametrize('model_type', MODELS)
def test_frames_of_a_size_do_not_depend_on_each_other(tmp_path, frames, model_type):
  detector, _ = create_detector(load(MODELS[model_type](tmp_path)), 0.0)
  batch = [frames[0], np.flipud(frames[0]).copy(), np.fliplr(frames[0]).copy()]
  for result, frame in zip(detector(batch, PHRASES), batch, strict=True):
    (alone,) = detector([frame], PHRASES)
    np.testing.assert_allclose(result.boxes, alone.boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(result.scores, alone.scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(result.phrases, alone.phrases)


def test_a_box_has_the_phrase_of_the_word_that_transformers_names_alone(tmp_path, frames):
  folder = MODELS['grounding-dino'](tmp_path)
  processor, output, _, sizes = reference(folder, 'grounding-dino', frames)
  detector, _ = create_detector(load(folder), 0.0)
  compared = set()
  for index, result in enumerate(detector(frames, PHRASES)):
    for box, score, phrase in zip(*result, strict=True):
      # Above this threshold is the box's best token alone.
      own = processor.post_process_grounded_object_detection(
        output, threshold=score - 1e-6, text_threshold=score - 1e-6, target_sizes=sizes
      )[index]
      (word,) = (
        label
        for label, edges in zip(own['text_labels'], own['boxes'].numpy(), strict=True)
        if np.array_equal(edges, box)
      )
      if word in WORDS:
        assert phrase == WORDS[word]
        compared.add(phrase)
  assert len(compared) > 1


def stub_detector(loaded, logits, boxes, threshold=0.25):
  """Returns a Grounding DINO that outputs these f32[B, N, L] and f32[B, N, 4]."""
  full = torch.full((*np.shape(logits)[:2], loaded.model.config.max_text_len), -torch.inf)
  full[..., : np.shape(logits)[2]] = torch.tensor(logits)
  output = transformers.models.grounding_dino.modeling_grounding_dino
  output = output.GroundingDinoObjectDetectionOutput(logits=full, pred_boxes=torch.tensor(boxes))

  class Model:
    config = loaded.model.config

    def __call__(self, **inputs):
      assert len(inputs['input_ids']) == len(logits)
      return output

  return create_detector(dataclasses.replace(loaded, model=Model()), threshold)[0]


def test_partial_merged_and_unknown_words_belong_to_a_phrase(tmp_path):
  loaded = load(MODELS['grounding-dino'](tmp_path))
  # Tokens: [CLS] hand . vicks(unknown) vaporub(unknown) bottle . cup . [SEP]
  phrases = ['hand', 'vicks vaporub bottle', 'cup']
  low, high, highest = -9.0, 1.0, 2.0
  rows = np.full((6, 10), low, np.float32)
  rows[0, 5] = high  # A part of a phrase.
  rows[1, [1, 7]] = high, highest  # Words of two phrases.
  rows[2, 4] = high  # A word that the tokenizer does not know.
  rows[3, [2, 1]] = highest, high  # A period.
  rows[4, [0, 9, 7]] = highest, highest, high  # The ends of the text.
  boxes = np.full((1, 6, 4), 0.5, np.float32)  # Centers and sides.
  boxes[0, :, 2] = np.arange(6) / 10
  detector = stub_detector(loaded, rows[None], boxes)
  (result,) = detector([np.zeros((40, 60, 3), np.uint8)], phrases)
  np.testing.assert_array_equal(result.phrases, [1, 2, 1, 0, 2])
  half = 60 * np.arange(5) / 20
  np.testing.assert_allclose(result.boxes[:, 0], 30 - half, rtol=1e-6)
  np.testing.assert_allclose(result.boxes[:, [1, 3]], [[10, 30]] * 5, rtol=1e-6)
  np.testing.assert_allclose(result.boxes[:, 2], 30 + half, rtol=1e-6)
  sigmoid = 1 / (1 + np.exp([-high, -highest, -high, -highest, -highest]))
  np.testing.assert_allclose(result.scores, sigmoid, rtol=1e-6)


def test_nothing_above_the_threshold_is_no_box(tmp_path):
  loaded = load(MODELS['grounding-dino'](tmp_path))
  detector = stub_detector(loaded, np.full((1, 3, 4), -9, np.float32), np.ones((1, 3, 4)))
  (result,) = detector([np.zeros((40, 60, 3), np.uint8)], ['hand'])
  assert (result.boxes.shape, result.scores.shape, result.phrases.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize(
  ('lengths', 'spans'),
  [
    ([2, 3], [(0, 2)]),
    ([2, 4], [(0, 2)]),
    ([2, 5], [(0, 1), (1, 2)]),
    ([9, 2], [(0, 1), (1, 2)]),
    ([6, 4, 3], [(0, 1), (1, 2), (2, 3)]),
    ([3, 3, 3, 3, 3], [(0, 2), (2, 4), (4, 5)]),
  ],
)
def test_phrases_are_split_into_texts(lengths, spans):
  assert split_phrases(lengths, 8) == spans


def test_phrases_beyond_the_longest_text_are_found_in_a_second_one(tmp_path, frames):
  detector, _ = create_detector(load(tiny_text_models.grounding_dino(tmp_path, max_tokens=8)), 0.0)
  results = detector(frames, PHRASES)
  first, second = detector(frames, PHRASES[:2]), detector(frames, PHRASES[2:])
  for result, one, two in zip(results, first, second, strict=True):
    np.testing.assert_array_equal(result.boxes, np.concatenate([one.boxes, two.boxes]))
    np.testing.assert_array_equal(result.scores, np.concatenate([one.scores, two.scores]))
    np.testing.assert_array_equal(result.phrases, np.concatenate([one.phrases, two.phrases + 2]))
