"""Detects what phrases name: boxes from Grounding DINO and from OWLv2 or OWL-ViT."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from zsar_jax.mask_making.loading import Family, LoadedModel

# The models that detect phrases, by `model_type`.
DETECTORS = {
  'grounding-dino': Family('GroundingDinoForObjectDetection', 'GroundingDinoProcessor'),
  'mm-grounding-dino': Family('MMGroundingDinoForObjectDetection', 'GroundingDinoProcessor'),
  'owlv2': Family('Owlv2ForObjectDetection', 'Owlv2Processor'),
  'owlvit': Family('OwlViTForObjectDetection', 'OwlViTProcessor'),
}


class Detections(NamedTuple):
  """What was detected in a frame.

  Attributes:
    boxes: f64[N, 4], the left, upper, right and lower edge of each box in pixels of the frame. They
      may reach beyond it.
    scores: f64[N], from 0 to 1.
    phrases: i64[N], the index of the phrase that each box shows.
  """

  boxes: np.ndarray
  scores: np.ndarray
  phrases: np.ndarray


# Detects phrases in a batch of frames u8[H, W, 3], which may differ in size.
Detector = Callable[[Sequence[np.ndarray], Sequence[str]], list[Detections]]


def create_detector(loaded: LoadedModel, threshold: float | None) -> tuple[Detector, float]:
  """Creates a detector, and chooses its threshold if that is None.

  The thresholds are low, since a person that is missed appears in the background, and a false one
  only covers a part of it.

  Args:
    loaded: a model of `DETECTORS`.
    threshold: the lowest score of a box, from 0 to 1.

  Returns:
    The detector and its threshold.
  """
  if loaded.config['model_type'].startswith('owl'):
    # The default of its `post_process_grounded_object_detection` in transformers.
    threshold = 0.1 if threshold is None else threshold
    return _OwlDetector(loaded, threshold), threshold
  # Also the default in transformers.
  threshold = 0.25 if threshold is None else threshold
  return _GroundingDetector(loaded, threshold), threshold


class _GroundingDetector:
  """Grounding DINO, which reads all phrases as a text and scores each token of it for each box."""

  def __init__(self, loaded: LoadedModel, threshold: float):
    self._loaded, self._threshold = loaded, threshold
    config = loaded.model.config
    self._max_tokens = min(config.max_text_len, config.text_config.max_position_embeddings)
    tokenizer = loaded.processor.tokenizer
    self._period = tokenizer.convert_tokens_to_ids('.')
    # Tokens outside of the phrases. The one for unknown words is a part of a phrase.
    self._marks = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]

  def __call__(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
    parts = [
      self._detect(frames, phrases[start:stop], start)
      for start, stop in split_phrases(self._lengths(phrases), self._max_tokens)
    ]
    return [_joined(results) for results in zip(*parts, strict=True)]

  def _lengths(self, phrases: Sequence[str]) -> list[int]:
    """Returns the number of tokens of each phrase and its period."""
    ids = self._loaded.processor.tokenizer(list(phrases), add_special_tokens=False)['input_ids']
    return [len(tokens) + 1 for tokens in ids]

  def _detect(
    self, frames: Sequence[np.ndarray], phrases: Sequence[str], first: int
  ) -> list[Detections]:
    """Detects phrases, of which the first has the index `first`, that fit into a text."""
    processor = self._loaded.processor
    inputs = processor(
      images=list(frames),
      text=[' '.join(f'{phrase}.' for phrase in phrases)] * len(frames),
      input_data_format='channels_last',
      device=self._loaded.device,
      truncation=True,
      max_length=self._max_tokens,
      return_tensors='pt',
    )
    ids = inputs['input_ids'].cpu()
    output = _run(self._loaded, inputs)
    results = processor.post_process_grounded_object_detection(
      output,
      ids,
      threshold=self._threshold,
      target_sizes=[frame.shape[:2] for frame in frames],
    )
    phrase_of = token_phrases(ids[0].numpy(), self._period, self._marks)
    logits = output['logits'].numpy()[..., : len(phrase_of)]
    kept = output['logits'].sigmoid().amax(-1).numpy() > self._threshold
    return [
      Detections(*_arrays(result), first + best_phrases(tokens[keep], phrase_of))
      for result, tokens, keep in zip(results, logits, kept, strict=True)
    ]


class _OwlDetector:
  """OWLv2 or OWL-ViT, which scores each phrase for each box."""

  def __init__(self, loaded: LoadedModel, threshold: float):
    self._loaded, self._threshold = loaded, threshold

  def __call__(self, frames: Sequence[np.ndarray], phrases: Sequence[str]) -> list[Detections]:
    processor = self._loaded.processor
    inputs = processor(
      images=list(frames),
      text=[list(phrases)] * len(frames),
      input_data_format='channels_last',
      device=self._loaded.device,
      truncation=True,
      max_length=self._loaded.model.config.text_config.max_position_embeddings,
      return_tensors='pt',
    )
    results = processor.post_process_grounded_object_detection(
      _run(self._loaded, inputs),
      threshold=self._threshold,
      target_sizes=[frame.shape[:2] for frame in frames],
    )
    return [Detections(*_arrays(result), result['labels'].numpy()) for result in results]


def split_phrases(lengths: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
  """Splits phrases into texts that the model can read.

  Args:
    lengths: the number of tokens of each phrase, with its period.
    max_tokens: the most tokens in a text, with one at its start and one at its end. A longer
      phrase is a text of its own.

  Returns:
    The first phrase of each text, and the one after its last.
  """
  starts, total = [0], 2
  for index, length in enumerate(lengths):
    if total + length > max_tokens and index > starts[-1]:
      starts.append(index)
      total = 2
    total += length
  return list(zip(starts, [*starts[1:], len(lengths)], strict=True))


def token_phrases(ids: np.ndarray, period: int, marks: Sequence[int]) -> np.ndarray:
  """Returns the phrase of each token of a text in which each phrase ends with a period.

  Args:
    ids: i64[L], the tokens.
    period: the token of a period.
    marks: the tokens at the start and at the end of a text, and its padding.

  Returns:
    i64[L]. -1 for a token that belongs to no phrase.
  """
  ends = ids == period
  return np.where(ends | np.isin(ids, marks), -1, np.cumsum(ends))


def best_phrases(logits: np.ndarray, phrase_of: np.ndarray) -> np.ndarray:
  """Returns the phrase that each box shows, that of its most probable token.

  The labels in transformers join every token above a threshold: 'hand cup box', if a box may show
  each of them, 'bottle' for 'vicks vaporub bottle', or nothing. A token belongs to a single phrase.

  Args:
    logits: f32[N, L], of each box and token.
    phrase_of: i64[L], see `token_phrases`; at least one token belongs to a phrase.

  Returns:
    i64[N].
  """
  return phrase_of[np.where(phrase_of >= 0, logits, -np.inf).argmax(-1)]


def _run(loaded: LoadedModel, inputs: Any) -> Any:
  """Returns the model's logits and boxes as f32 on the CPU, in an output of its own kind."""
  with loaded.inference():
    output = loaded.model(**inputs.to(loaded.device))
  fields = {name: output[name].float().cpu() for name in ('logits', 'pred_boxes')}
  return type(output)(**fields)


def _arrays(result: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  return result['boxes'].numpy().astype(np.float64), result['scores'].numpy().astype(np.float64)


def _joined(results: Sequence[Detections]) -> Detections:
  return Detections(*(np.concatenate(parts) for parts in zip(*results, strict=True)))
