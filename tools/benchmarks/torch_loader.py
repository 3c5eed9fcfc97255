"""Reads clips as peers do: a PyTorch DataLoader over videos, with masks in PNG files.

It does only the necessary part of X-CLIP's and ViFi-CLIP's pipelines: it selects frames, crops them
to the box and resizes them once, in uint8, where theirs resize twice.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import av
import numpy as np
import torch

from zsar_jax.data.geometry import resize_frame, resize_plane
from zsar_jax.data.view import View
from zsar_jax.recipes.regions import REGION_BITS

from . import clips


def batches(
  folder: pathlib.Path, samples: Sequence[Any], view: View, reader: str, batch_size: int
) -> Iterable[dict[str, torch.Tensor]]:
  """Returns batches of frames u8[B, T, S, S, 3] and regions u8[B, T, S, S].

  Args:
    folder: the folder of the clips.
    samples: the frames and crops to read, see `pipeline_loops.Sample`.
    view: how they are resized.
    reader: 'pyav' or 'decord'.
    batch_size: B.
  """
  dataset = _Clips(folder, samples, view, {'pyav': _read_pyav, 'decord': _read_decord}[reader])
  return torch.utils.data.DataLoader(dataset, batch_size, num_workers=0)


class _Clips(torch.utils.data.Dataset):
  def __init__(self, folder: pathlib.Path, samples: Sequence[Any], view: View, read: Any):
    self._folder, self._samples, self._view, self._read = folder, samples, view, read

  def __len__(self) -> int:
    return len(self._samples)

  def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
    sample, size = self._samples[number], self._view.size
    frames = np.empty((len(sample.indices), size, size, 3), np.uint8)
    regions = np.empty(frames.shape[:3], np.uint8)
    images = self._read(clips.video_path(self._folder, sample.clip_id), sample.indices)
    for t, (index, image) in enumerate(zip(sample.indices, images, strict=True)):
      resize_frame(image, sample.box, size, self._view.interpolation, out=frames[t])
      plane = np.zeros(image.shape[:2], np.uint8)
      for region in clips.REGIONS:
        mask = clips.read_mask(self._folder, sample.clip_id, region, index)
        plane[mask] |= REGION_BITS[region]
      resize_plane(plane, sample.box, size, out=regions[t])
    return {'frames': torch.from_numpy(frames), 'regions': torch.from_numpy(regions)}


def _read_pyav(path: pathlib.Path, indices: Sequence[int]) -> list[np.ndarray]:
  """Returns the frames u8[H, W, 3] at `indices`; stops decoding after the last of them."""
  remaining, frames = set(indices), {}
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for number, frame in enumerate(container.decode(stream)):
      if number in remaining:
        frames[number] = frame.to_ndarray(format='rgb24')
        remaining.remove(number)
      if not remaining:
        break
  return [frames[index] for index in indices]


def _read_decord(path: pathlib.Path, indices: Sequence[int]) -> np.ndarray:
  import decord

  return decord.VideoReader(str(path), num_threads=1).get_batch(list(indices)).asnumpy()
