"""How peers read clips: a PyTorch DataLoader over videos, with masks in PNG files.

Of X-CLIP's and ViFi-CLIP's pipeline only what must be done is here: frames are picked, cut to the
box and resized once, in uint8, where theirs resize twice.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import av
import cv2
import numpy as np
import torch

from zsar_jax.data.geometry import resize_frame, resize_plane
from zsar_jax.data.view import View
from zsar_jax.recipes.regions import REGION_BITS

from . import clips


def batches(
  folder: pathlib.Path, shots: Sequence[Any], view: View, reader: str, batch_size: int
) -> Iterable[dict[str, torch.Tensor]]:
  """The clips of `shots` in batches of frames u8[B, T, S, S, 3] and regions u8[B, T, S, S].

  Args:
    folder: of the clips.
    shots: what is wanted of them, see `pipeline.Shot`.
    view: how they are resized.
    reader: 'pyav' or 'decord'.
    batch_size: B.
  """
  dataset = _Clips(folder, shots, view, {'pyav': _read_pyav, 'decord': _read_decord}[reader])
  return torch.utils.data.DataLoader(dataset, batch_size, num_workers=0)


class _Clips(torch.utils.data.Dataset):
  def __init__(self, folder: pathlib.Path, shots: Sequence[Any], view: View, read: Any):
    self._folder, self._shots, self._view, self._read = folder, shots, view, read

  def __len__(self) -> int:
    return len(self._shots)

  def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
    shot, size = self._shots[number], self._view.size
    frames = np.empty((len(shot.indices), size, size, 3), np.uint8)
    regions = np.empty(frames.shape[:3], np.uint8)
    images = self._read(clips.video_path(self._folder, shot.clip_id), shot.indices)
    for t, (index, image) in enumerate(zip(shot.indices, images, strict=True)):
      resize_frame(image, shot.box, size, self._view.interpolation, out=frames[t])
      plane = np.zeros(image.shape[:2], np.uint8)
      for region in clips.REGIONS:
        path = clips.mask_path(self._folder, shot.clip_id, region, index)
        plane[cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0] |= REGION_BITS[region]
      resize_plane(plane, shot.box, size, out=regions[t])
    return {'frames': torch.from_numpy(frames), 'regions': torch.from_numpy(regions)}


def _read_pyav(path: pathlib.Path, indices: Sequence[int]) -> list[np.ndarray]:
  """The frames u8[H, W, 3] at `indices`; nothing after the last of them is decoded."""
  wanted, found = set(indices), {}
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for number, frame in enumerate(container.decode(stream)):
      if number in wanted:
        found[number] = frame.to_ndarray(format='rgb24')
      if len(found) == len(wanted):
        break
  return [found[index] for index in indices]


def _read_decord(path: pathlib.Path, indices: Sequence[int]) -> np.ndarray:
  import decord

  return decord.VideoReader(str(path), num_threads=1).get_batch(list(indices)).asnumpy()
