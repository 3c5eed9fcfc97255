"""Makes clips like those of Kinetics, to measure the input pipeline with.

A clip is an H.264 video of moving textures with sensor noise. Each frame has masks of a person and
of an object, as PNG with values 0 and 255:

    {folder}/{id}.mp4
    {folder}/{id}/person/{number:05d}.png
    {folder}/{id}/object/{number:05d}.png
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np
import tensorflow_datasets as tfds

from zsar_jax.data import records
from zsar_jax.datasets.build import build
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.recipes.regions import REGION_BITS

REGIONS = ('person', 'object')

# As most clips of Kinetics are distributed: 10 s at 30 frames per second, 256 pixels high.
HEIGHT, WIDTH, NUM_FRAMES, FPS = 256, 340, 300, 30


def video_path(folder: pathlib.Path, clip_id: str) -> pathlib.Path:
  """Returns the path of a clip's video."""
  return folder / f'{clip_id}.mp4'


def mask_path(folder: pathlib.Path, clip_id: str, region: str, number: int) -> pathlib.Path:
  """Returns the path of the mask of a region in a frame of a clip."""
  return folder / clip_id / region / f'{number:05d}.png'


def read_mask(folder: pathlib.Path, clip_id: str, region: str, number: int) -> np.ndarray:
  """Reads the mask bool[H, W] of a region in a frame of a clip."""
  path = mask_path(folder, clip_id, region, number)
  image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
  assert image is not None, f'{path} cannot be read'
  return image > 0


def make_clip(
  folder: pathlib.Path,
  clip_id: str,
  seed: int,
  num_frames: int = NUM_FRAMES,
  height: int = HEIGHT,
  width: int = WIDTH,
) -> None:
  """Writes a clip's video and masks.

  Args:
    folder: the folder of the clips.
    clip_id: the name of the clip.
    seed: the seed of all random numbers.
    num_frames: the length of the clip.
    height: the height of its frames in pixels; H.264 needs an even number.
    width: likewise.
  """
  for region in REGIONS:
    mask_path(folder, clip_id, region, 0).parent.mkdir(parents=True)
  with av.open(str(video_path(folder, clip_id)), 'w') as container:
    stream = container.add_stream('libx264', rate=FPS)
    stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
    for number, (frame, masks) in enumerate(_render(seed, num_frames, height, width)):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
      for region, mask in masks.items():
        cv2.imwrite(str(mask_path(folder, clip_id, region, number)), mask)
    container.mux(stream.encode())


def _render(
  seed: int, num_frames: int, height: int, width: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
  """Yields each frame u8[H, W, 3], and its masks by region, u8[H, W] of 0 and 255."""
  rng = np.random.default_rng(seed)
  # The camera pans over a scene that is larger than the frame.
  scene = _texture(rng, height + num_frames // 4, width + num_frames // 4)
  skins = {region: _texture(rng, height, width) for region in REGIONS}
  outlines = {region: rng.uniform(0.6, 1.0, 24) for region in REGIONS}
  phases = rng.uniform(0, 2 * np.pi, (len(REGIONS), 2))
  noises = rng.normal(0, 6, (8, height, width, 3)).astype(np.float32)
  for number in range(num_frames):
    pan = number // 4
    frame = scene[pan : pan + height, pan : pan + width].copy()
    masks = {}
    for index, (region, scale) in enumerate(zip(REGIONS, (0.4, 0.15), strict=True)):
      masks[region] = np.zeros((height, width), np.uint8)
      y, x = 0.5 + 0.25 * np.sin(phases[index] + number / 15)
      angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
      radius = scale * height * outlines[region] * (1 + 0.15 * np.sin(3 * angle + number / 5))
      outline = [x * width + 0.6 * radius * np.cos(angle), y * height + radius * np.sin(angle)]
      cv2.fillPoly(masks[region], [np.stack(outline, -1).astype(np.int32)], 255)
      frame[masks[region] > 0] = skins[region][masks[region] > 0]
    frame += np.roll(noises[rng.integers(len(noises))], int(rng.integers(width)), axis=1)
    yield np.clip(frame, 0, 255).astype(np.uint8), masks


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Returns noise f32[H, W, 3] in octaves, each with less contrast than the coarser one."""
  image = np.full((height, width, 3), 128, np.float32)
  for octave in range(2, 8):
    cells = rng.normal(0, 1, (2**octave, 2**octave, 3)).astype(np.float32)
    amplitude = 60 * 0.7 ** (octave - 2)
    image += amplitude * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
  return image


@dataclasses.dataclass(frozen=True)
class _Task:
  """A clip of a folder to encode, with or without region planes."""

  id: str
  folder: str
  planes: bool


def _encode(task: _Task) -> records.EncodedClip:
  folder = pathlib.Path(task.folder)
  video = read_video(video_path(folder, task.id), Storage())
  facts = video.facts
  planes = None
  if task.planes:
    planes = [_read_plane(folder, task.id, number) for number in facts.kept]
  size = (facts.height, facts.width)
  return records.encode_clip(task.id, 0, video.jpegs, planes, size, video.fps)


def _read_plane(folder: pathlib.Path, clip_id: str, number: int) -> np.ndarray:
  """Reads the region plane u8[H, W] of a frame."""
  bits = [read_mask(folder, clip_id, region, number) * REGION_BITS[region] for region in REGIONS]
  return np.sum(bits, axis=0).astype(np.uint8)


class _Builder(ClipBuilder, skip_registration=True):  # type: ignore[call-arg]  # As in builder.
  """Records of the clips of a folder."""

  name = 'benchmark'
  VERSION = tfds.core.Version('1.0.0')
  classes = ('moving',)
  class_splits: dict[str, Any] = {}
  region_names = REGIONS
  parameters: dict[str, Any] = {}
  encode = staticmethod(_encode)

  def __init__(self, data_dir: pathlib.Path, folder: pathlib.Path, planes: bool):
    self._tasks = [_Task(path.stem, str(folder), planes) for path in sorted(folder.glob('*.mp4'))]
    super().__init__(data_dir)

  def tasks(self) -> dict[str, list[_Task]]:
    return {'train': self._tasks}


def build_records(folder: pathlib.Path, out: pathlib.Path, planes: bool) -> None:
  """Builds the data set 'benchmark' from the clips of `folder`, with or without region planes."""
  build(_Builder(out, folder, planes), workers=0)
