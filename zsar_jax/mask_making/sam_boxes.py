"""Segments what boxes enclose, with the image model of SAM 2.1.

SAM 2 encodes an image once, and then decodes a mask for each box, which is cheap. The decoder gets
pairs of an image and a box, so that images with few boxes are not padded to those with many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# The number of boxes that are decoded together. The decoder enlarges the image's features for each,
# which takes about 50 MB.
_BOXES = 32


class BoxSegmenter:
  """Segments what the boxes in frames enclose."""

  def __init__(self, model: Any, processor: Any):
    """Creates the segmenter.

    Args:
      model: a `transformers.Sam2Model` in evaluation mode.
      processor: its `transformers.Sam2Processor`, or the `Sam2VideoProcessor` of a checkpoint of
        the video model, which prepares images in the same way.
    """
    self._model, self._processor = model, processor

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

    device = self._model.device
    pairs = [(frame, box) for frame, own in enumerate(boxes) for box in range(len(own))]
    with torch.inference_mode():
      images = self._processor.image_processor(
        list(frames), input_data_format='channels_last', device=device, return_tensors='pt'
      )
      pixels = images['pixel_values'].to(device)
      embeddings = self._model.get_image_embeddings(pixels)
      for start in range(0, len(pairs), _BOXES):
        chunk = pairs[start : start + _BOXES]
        owners = torch.tensor([frame for frame, _ in chunk], device=device)
        prompts = [
          [_scale(boxes[frame][box], frames[frame].shape, pixels.shape)] for frame, box in chunk
        ]
        output = self._model(
          image_embeddings=[features[owners] for features in embeddings],
          input_boxes=torch.tensor(prompts, device=device),
          multimask_output=False,
        )
        logits, scores = output.pred_masks.float(), output.iou_scores.float().cpu().numpy()
        for index, (frame, box) in enumerate(chunk):
          masks, qualities = results[frame]
          (mask,) = self._processor.post_process_masks(logits[[index]], [masks.shape[1:]])
          masks[box] = mask[0, 0].cpu().numpy()
          qualities[box] = scores[index, 0, 0]


def _scale(box: np.ndarray, frame: Sequence[int], pixels: Sequence[int]) -> list[float]:
  """Scales a box from a frame of the shape [H, W, 3] to the network's input [B, 3, H, W]."""
  factors = pixels[3] / frame[1], pixels[2] / frame[0]
  return [float(edge * factor) for edge, factor in zip(box, factors * 2, strict=True)]
