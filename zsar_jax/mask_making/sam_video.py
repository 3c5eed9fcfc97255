"""Tracks objects through a few frames, with the video model of SAM 2.1."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.mask_making.loading import Family, LoadedModel, load_model

# A checkpoint of the image model alone lacks the weights of the memory.
_FAMILIES = {'sam2_video': Family('Sam2VideoModel', 'Sam2VideoProcessor')}


@dataclasses.dataclass(frozen=True)
class Tracked:
  """An object in a frame.

  Attributes:
    mask: bool[H, W]; empty where the object is hidden.
    score: the probability that the object is visible, from 0 to 1.
  """

  mask: np.ndarray
  score: float


class SamSession:
  """Tracks objects through a sequence of frames, all of which are in memory.

  Objects are prompted at frames of the caller's choice, and then followed frame by frame: forwards,
  or backwards with `reverse`, starting next to a frame where all of them are known. Each has a
  memory of the last frames where it was seen.
  """

  def __init__(self, loaded: LoadedModel, frames: Sequence[np.ndarray]):
    """Prepares the frames, 13 MB each in memory of the CPU.

    Args:
      loaded: the result of `load_tracker`.
      frames: u8[H, W, 3] each, RGB, of one size.
    """
    import torch

    self._loaded, self._size = loaded, frames[0].shape[:2]
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    with loaded.inference():
      self._session = loaded.processor.init_video_session(
        video=video,
        inference_device=loaded.device,
        processing_device=loaded.device,
        video_storage_device='cpu',
        max_vision_features_cache_size=1,
        dtype=torch.float32,
      )

  def add_boxes(self, frame: int, boxes: Mapping[int, Sequence[float]]) -> dict[int, Tracked]:
    """Begins to track what boxes enclose in a frame.

    Args:
      frame: the index of the frame.
      boxes: {number of a new object: its left, upper, right and lower edge in pixels}.

    Returns:
      All objects in this frame, by their numbers.
    """
    return self._add(frame, list(boxes), input_boxes=[[list(box) for box in boxes.values()]])

  def add_masks(self, frame: int, masks: Mapping[int, np.ndarray]) -> dict[int, Tracked]:
    """Begins to track objects whose masks in a frame are known.

    Args:
      frame: the index of the frame.
      masks: {number of a new object: bool[H, W]}.

    Returns:
      All objects in this frame, by their numbers.
    """
    return self._add(frame, list(masks), input_masks=list(masks.values()))

  def track(self, frame: int, reverse: bool = False) -> dict[int, Tracked]:
    """Finds all objects in a frame, next to one where they are known.

    Args:
      frame: the index of the frame.
      reverse: whether the objects are known in the next frame instead of the previous one.

    Returns:
      The objects, by their numbers.
    """
    loaded = self._loaded
    with loaded.inference():
      output = loaded.model(inference_session=self._session, frame_idx=frame, reverse=reverse)
      (masks,) = loaded.processor.post_process_masks([output.pred_masks.float()], [self._size])
      masks = masks[:, 0].cpu().numpy()
      scores = output.object_score_logits.float().reshape(-1).sigmoid().cpu().numpy()
    # The session keeps these, of 4 MB each, but needs them only while their frame is current.
    for outputs in self._session.output_dict_per_obj.values():
      for by_frame in outputs.values():
        by_frame.get(frame, {}).pop('high_res_masks', None)
    return {
      number: Tracked(mask & (score > 0.5), float(score))
      for number, mask, score in zip(output.object_ids, masks, scores, strict=True)
    }

  def _add(self, frame: int, numbers: list[int], **prompts: Any) -> dict[int, Tracked]:
    others = self._session.get_obj_num()
    with self._loaded.inference():
      self._loaded.processor.add_inputs_to_inference_session(
        self._session, frame_idx=frame, obj_ids=numbers, **prompts
      )
    # Prompts in another frame would replace these if the model had not run in between.
    objects = self.track(frame)
    # This run remembers the masks of all objects as exact, as if all of them had been prompted.
    # Without a prompt, the memories of the others are made again.
    return self.track(frame) if others else objects


def load_tracker(model: str, *, flag: str, device: str = 'auto') -> LoadedModel:
  """Loads the video model of SAM 2 or 2.1.

  Args:
    model: see `loading.load_model`.
    flag: the flag that names the model, for errors.
    device: see `loading.choose_device`.

  Raises:
    UserError: see `loading.load_model`.
  """
  return load_model(model, _FAMILIES, flag=flag, device=device)
