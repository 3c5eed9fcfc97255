"""Segments what boxes enclose, with the image model of SAM 2.1.

SAM 2 encodes an image once, and then decodes a mask for each box, which is cheap. The decoder gets
pairs of an image and a box, so that images with few boxes are not padded to those with many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.mask_making.loading import Family, LoadedModel, load_model

# The number of boxes that are decoded together. The decoder enlarges the image's features for each,
# which takes about 50 MB.
_BOXES = 32

# The published checkpoints are of the video model, which contains the image model.
_FAMILIES = {
  'sam2': Family('Sam2Model', 'Sam2Processor'),
  'sam2_video': Family('Sam2Model', 'Sam2Processor'),
}


class BoxSegmenter:
  """Segments what the boxes in frames enclose.

  Attributes:
    provenance: the model and its licenses, as JSON values for `maker.Maker.provenance`.
  """

  def __init__(self, loaded: LoadedModel):
    """Creates the segmenter.

    Args:
      loaded: a `transformers.Sam2Model` and its processor.
    """
    self._loaded = loaded
    self.provenance: dict[str, Any] = {**loaded.provenance, 'licenses': loaded.licenses}

  def __call__(
    self, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Segments the boxes of several frames. The frames are one batch of the image encoder.

    Args:
      frames: u8[H, W, 3] each, RGB; they may differ in size.
      boxes: f64[N, 4] for each frame: the left, upper, right and lower edge of each box in pixels.
        A frame without boxes does not reach the network.

    Returns:
      For each frame, bool[N, H, W] with a mask for each box, and f32[N] with the quality of each
      mask as the model estimates it: its intersection over union with the true mask, from 0 to 1.
    """
    results = [
      (np.zeros((len(own), *frame.shape[:2]), bool), np.zeros(len(own), np.float32))
      for frame, own in zip(frames, boxes, strict=True)
    ]
    used = [index for index, own in enumerate(boxes) if len(own)]
    if used:
      self._segment([frames[n] for n in used], [boxes[n] for n in used], [results[n] for n in used])
    return results

  def _segment(
    self,
    frames: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    results: Sequence[tuple[np.ndarray, np.ndarray]],
  ) -> None:
    """Writes the masks and the scores of `__call__` into `results`; every frame has boxes."""
    import torch

    model, processor, device = self._loaded.model, self._loaded.processor, self._loaded.device
    pairs = [(frame, box) for frame, own in enumerate(boxes) for box in range(len(own))]
    with self._loaded.inference():
      images = processor.image_processor(
        list(frames), input_data_format='channels_last', device=device, return_tensors='pt'
      )
      pixels = images['pixel_values'].to(device)
      embeddings = model.get_image_embeddings(pixels)
      for start in range(0, len(pairs), _BOXES):
        chunk = pairs[start : start + _BOXES]
        owners = torch.tensor([frame for frame, _ in chunk], device=device)
        prompts = [
          [_scale(boxes[frame][box], frames[frame].shape, pixels.shape)] for frame, box in chunk
        ]
        output = model(
          image_embeddings=[features[owners] for features in embeddings],
          input_boxes=torch.tensor(prompts, device=device),
          multimask_output=False,
        )
        logits, scores = output.pred_masks.float(), output.iou_scores.float().cpu().numpy()
        for index, (frame, box) in enumerate(chunk):
          masks, qualities = results[frame]
          (mask,) = processor.post_process_masks(logits[[index]], [masks.shape[1:]])
          masks[box] = mask[0, 0].cpu().numpy()
          qualities[box] = scores[index, 0, 0]


def _scale(box: np.ndarray, frame: Sequence[int], pixels: Sequence[int]) -> list[float]:
  """Scales a box from a frame of the shape [H, W, 3] to the network's input [B, 3, H, W]."""
  factors = pixels[3] / frame[1], pixels[2] / frame[0]
  return [float(edge * factor) for edge, factor in zip(box, factors * 2, strict=True)]


def open_box_segmenter(model: str, *, flag: str, device: str = 'auto') -> BoxSegmenter:
  """Loads SAM 2 or 2.1.

  Args:
    model: see `loading.load_model`.
    flag: the flag that names the model, for errors.
    device: see `loading.choose_device`.

  Raises:
    UserError: see `loading.load_model`.
  """
  return BoxSegmenter(load_model(model, _FAMILIES, flag=flag, device=device))
