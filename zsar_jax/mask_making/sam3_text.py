"""Segments what phrases name with the image model of SAM 3, frame by frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.mask_making.loading import Family, LoadedModel
from zsar_jax.mask_making.maker import FrameMask
from zsar_jax.recipes.regions import REGION_BITS

# The published checkpoint is of the video model, which contains the image model.
SAM3_MODELS = {
  'sam3': Family('Sam3Model', 'Sam3Processor'),
  'sam3_video': Family('Sam3Model', 'Sam3Processor'),
}

# The lowest score of an instance: the default of `post_process_instance_segmentation` in
# transformers. The video model's is 0.5, but a person that is missed appears in the background.
THRESHOLD = 0.3


class Sam3Segmenter:
  """Segments every instance of each phrase."""

  def __init__(self, loaded: LoadedModel, threshold: float = THRESHOLD):
    """Creates the segmenter.

    Args:
      loaded: a model of `SAM3_MODELS`.
      threshold: the lowest score of an instance, from 0 to 1.
    """
    self._loaded, self._threshold = loaded, threshold

  def __call__(self, frames: Sequence[np.ndarray], phrases: Mapping[str, str]) -> list[FrameMask]:
    """Segments a batch of frames.

    Args:
      frames: u8[H, W, 3] each, RGB; they may differ in size.
      phrases: {phrase: 'person' or 'object'}.

    Returns:
      The mask of each frame. Its number of people is the number of instances of phrases for
      persons, so that a person whom two phrases name counts twice.
    """
    planes = [np.zeros(frame.shape[:2], np.uint8) for frame in frames]
    people = [0] * len(frames)
    scores: list[list[float]] = [[] for _ in frames]
    loaded = self._loaded
    with loaded.inference():
      images = loaded.processor.image_processor(
        list(frames),
        input_data_format='channels_last',
        device=loaded.device,
        return_tensors='pt',
      )
      vision = loaded.model.get_vision_features(images['pixel_values'].to(loaded.device))
      for phrase, region in phrases.items():
        output = loaded.model(vision_embeds=vision, **self._tokens(phrase, len(frames)))
        for index, (masks, own) in enumerate(self._instances(output, planes)):
          planes[index][masks.any(0)] |= np.uint8(REGION_BITS[region])
          people[index] += len(masks) if region == 'person' else 0
          scores[index] += own[masks.any((1, 2))].tolist()
    return [
      FrameMask(plane, count, min(own, default=np.nan))
      for plane, count, own in zip(planes, people, scores, strict=True)
    ]

  def _tokens(self, phrase: str, count: int) -> dict[str, Any]:
    """Returns a phrase as the model reads it, `count` times."""
    tokens = self._loaded.processor.tokenizer(
      [phrase] * count,
      padding='max_length',
      truncation=True,
      max_length=self._loaded.model.config.text_config.max_position_embeddings,
      return_tensors='pt',
    )
    return dict(tokens.to(self._loaded.device))

  def _instances(
    self, output: Any, planes: Sequence[np.ndarray]
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns bool[N, H, W], the masks of the instances in each frame, and f32[N], their scores."""
    names = ('pred_masks', 'pred_boxes', 'pred_logits', 'presence_logits')
    results = self._loaded.processor.image_processor.post_process_instance_segmentation(
      type(output)(**{name: output[name].float() for name in names}),
      threshold=self._threshold,
      target_sizes=[plane.shape for plane in planes],
    )
    instances = []
    for result, plane in zip(results, planes, strict=True):
      # Without instances, its masks have the size of the network's output.
      masks = result['masks'].bool().cpu().numpy().reshape(len(result['scores']), *plane.shape)
      instances.append((masks, result['scores'].cpu().numpy()))
    return instances
