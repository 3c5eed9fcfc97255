"""Decodes the outputs of networks into the people of a frame.

`transformers` decodes them too. Here it is done in the same way, but for people alone and on the
device: `transformers` enlarges the masks of all queries of all classes to full size at once, and
lets instances of other classes cover people.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

# Instances whose masks are enlarged to full size at once.
_AT_ONCE = 8

# Mask2Former's masks are enlarged to this size and then thresholded, as `transformers` does.
_QUERY_MASK_SIZE = (384, 384)
# Keeps the mean over a mask finite if the mask is empty; the value of `transformers`.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class People:
  """The people in a frame.

  Attributes:
    mask: bool[H, W], the union of their masks.
    scores: f32[N], the confidence of each person, from 0 to 1.
    boxes: f32[N, 4], the left, upper, right and lower edge of each person's mask in pixels; the
      latter two are exclusive.
  """

  mask: np.ndarray
  scores: np.ndarray
  boxes: np.ndarray


def unite(instances: Iterable[tuple[Any, Any]], size: tuple[int, int], device: Any) -> People:
  """Returns the union of instances.

  Args:
    instances: pairs of a tensor f32[N] of scores and a tensor bool[N, H, W] of masks. Instances
      without pixels do not count.
    size: H and W.
    device: of the tensors.
  """
  import torch

  union = torch.zeros(size, dtype=torch.bool, device=device)
  scores, boxes = [], []
  for chunk_scores, masks in instances:
    rows, columns = masks.any(2), masks.any(1)
    drawn = rows.any(1)
    union |= masks.any(0)
    edges = [*_extent(columns), *_extent(rows)]
    boxes.append(torch.stack([edges[0], edges[2], edges[1], edges[3]], 1)[drawn])
    scores.append(chunk_scores[drawn])
  return People(
    mask=union.cpu().numpy(),
    scores=np.concatenate([np.zeros(0, np.float32), *(s.cpu().numpy() for s in scores)]),
    boxes=np.concatenate([np.zeros((0, 4), np.float32), *(b.cpu().numpy() for b in boxes)]),
  )


def _extent(covered: Any) -> tuple[Any, Any]:
  """Returns two tensors f32[N], the first covered place and the place after the last."""
  length = covered.shape[1]
  first = covered.float().argmax(1)
  last = length - covered.flip(1).float().argmax(1)
  return first.float(), last.float()


def query_decoder(model_type: str, images: Any) -> Callable[..., Iterator[tuple[Any, Any]]]:
  """Returns the function that decodes the queries of a frame.

  It takes the logits of the classes f32[Q, C] and of the masks f32[Q, h, w], the classes i64[P] of
  people, the lowest score of a person, and the frame's size, and yields pairs for `unite`.

  Args:
    model_type: in config.json.
    images: the image processor.
  """
  if model_type == 'rf_detr':
    return _decode_rf_detr
  if model_type in ('mask2former', 'oneformer'):
    return _decode_mask2former
  return functools.partial(_decode_eomt, images=images)


def _decode_rf_detr(
  class_logits: Any, mask_logits: Any, people: Any, threshold: float, size: tuple[int, int]
) -> Iterator[tuple[Any, Any]]:
  """See `query_decoder`; as `RfDetrImageProcessor.post_process_instance_segmentation`."""
  import torch

  queries, classes = class_logits.shape
  scores, pairs = class_logits.sigmoid().flatten().topk(queries)
  kept = (scores > threshold) & torch.isin(pairs % classes, people)
  scores, masks = scores[kept], mask_logits[pairs[kept] // classes]
  for some_scores, some_masks in _parts(scores, masks):
    yield some_scores, _enlarge(some_masks, size) > 0


def _decode_mask2former(
  class_logits: Any, mask_logits: Any, people: Any, threshold: float, size: tuple[int, int]
) -> Iterator[tuple[Any, Any]]:
  """See `query_decoder`; as `Mask2FormerImageProcessor.post_process_instance_segmentation`.

  OneFormer's authors decode instances in this way too. `OneFormerImageProcessor` does not: it
  assigns every pixel to an instance, whatever its mask, and a lone person would cover the frame.
  """
  import torch

  queries, classes = class_logits.shape[0], class_logits.shape[1] - 1
  scores, pairs = class_logits.softmax(-1)[:, :-1].flatten().topk(queries, sorted=False)
  kept = (scores >= threshold) & torch.isin(pairs % classes, people)  # The masks' factor is < 1.
  scores, masks = scores[kept], mask_logits[pairs[kept] // classes]
  for some_scores, some_masks in _parts(scores, masks):
    square = _enlarge(some_masks, _QUERY_MASK_SIZE)
    some_scores = some_scores * _mask_quality(square)
    kept = some_scores >= threshold
    binary = (square[kept] > 0).float()
    full = torch.nn.functional.interpolate(binary[:, None], size=size, mode='nearest')[:, 0]
    yield some_scores[kept], full > 0


def _decode_eomt(
  class_logits: Any,
  mask_logits: Any,
  people: Any,
  threshold: float,
  size: tuple[int, int],
  images: Any,
) -> Iterator[tuple[Any, Any]]:
  """See `query_decoder`; as `EomtImageProcessor.post_process_instance_segmentation`."""
  import torch

  scores, labels = class_logits.softmax(-1)[:, :-1].max(-1)
  kept = (scores >= threshold) & torch.isin(labels, people)
  scores, masks = scores[kept], mask_logits[kept]
  shortest, longest = images.size['shortest_edge'], images.size['longest_edge']
  for some_scores, some_masks in _parts(scores, masks):
    padded = _enlarge(some_masks, (shortest, longest or shortest))
    (full,) = images.unpad_image(padded[None], [size], images.size)
    some_scores = some_scores * _mask_quality(full)
    kept = some_scores >= threshold
    yield some_scores[kept], full[kept] > 0


def _parts(scores: Any, masks: Any) -> Iterator[tuple[Any, Any]]:
  """Yields the instances, few at a time."""
  for start in range(0, len(scores), _AT_ONCE):
    yield scores[start : start + _AT_ONCE], masks[start : start + _AT_ONCE]


def _mask_quality(logits: Any) -> Any:
  """Returns f32[N], the mean probability of the pixels in each of the masks f32[N, H, W]."""
  inside = (logits > 0).float().flatten(1)
  return (logits.sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + _EPSILON)


def _enlarge(masks: Any, size: tuple[int, int]) -> Any:
  """Returns f32[N, *size] from the logits f32[N, h, w] of masks."""
  import torch

  return torch.nn.functional.interpolate(
    masks[None], size=size, mode='bilinear', align_corners=False
  )[0]
