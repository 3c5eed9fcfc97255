"""Reads a video that is a folder of numbered images."""

import pathlib
import re
from typing import Any

import cv2
import numpy as np

from zsar_jax.data import records
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.video import (
  AnnotatedFrames,
  Storage,
  StoredVideo,
  VideoFacts,
  make_thumbnail,
)

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')

# A frame's file name without its suffix: a prefix, and the frame's number.
_NUMBERED = re.compile(r'(.*?)(\d+)')

# The prefix of the frames in mmaction2's folders, which also hold images of optical flow.
_PREFERRED_PREFIX = 'img_'


def read_frame_folder(
  folder: pathlib.Path, storage: Storage, fps: float, annotated: AnnotatedFrames | None
) -> StoredVideo:
  """Reads a folder of frames; images that cannot be read are left out and counted.

  Args:
    folder: the folder of images, whose names end with their numbers.
    storage: which frames and pixels to keep.
    fps: frames per second.
    annotated: returns the annotated frames, if those are preferred among the kept ones.

  Raises:
    ClipError: if there are no such images, or frames of several sizes or series.
  """
  images, remarks = _numbered_images(folder)
  unreadable: list[ClipError] = []
  # Which frames are kept depends on the number of frames, so an unreadable image restarts the loop.
  while images:
    numbers, paths = list(images), list(images.values())
    near = annotated(len(paths), np.array(numbers)) if annotated and storage.keep != 'all' else ()
    kept = storage.select_frames(len(paths), near)
    jpegs, size, previously_unreadable = records.Images(), (0, 0), len(unreadable)
    thumbnails: list[np.ndarray] = []
    for index in kept:
      try:
        frame = _read_image(paths[index])
      except ClipError as error:
        unreadable.append(error)
        del images[numbers[index]]
        continue
      size = size if any(size) else (frame.shape[0], frame.shape[1])
      if frame.shape[:2] != size:
        raise ClipError(
          f'{paths[index]} has {frame.shape[1]} x {frame.shape[0]} pixels where other frames have'
          f' {size[1]} x {size[0]}'
        )
      height, width = storage.scaled_size(*size)
      frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
      jpegs += records.encode_frames([frame], storage.jpeg_quality)
      thumbnails.append(make_thumbnail(frame))
    if len(unreadable) == previously_unreadable:
      height, width = storage.scaled_size(*size)
      facts = VideoFacts(
        len(paths),
        kept,
        height,
        width,
        size[0],
        size[1],
        np.array(thumbnails),
        np.array(numbers),
      )
      if unreadable:
        remarks['frames that cannot be read'] = f'{len(unreadable)}, such as {unreadable[0].reason}'
      return StoredVideo(jpegs, facts, fps * len(kept) / len(paths), remarks)
  raise unreadable[0]


def _numbered_images(folder: pathlib.Path) -> tuple[dict[int, pathlib.Path], dict[str, str]]:
  """Returns the images of a folder by their numbers, in order, and remarks about the others."""
  by_prefix: dict[str, dict[int, pathlib.Path]] = {}
  unnumbered = []
  for path in sorted(folder.iterdir()):
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
      match = _NUMBERED.fullmatch(path.stem)
      if not match:
        unnumbered.append(path)
        continue
      series, number = by_prefix.setdefault(match[1], {}), int(match[2])
      if number in series:
        raise ClipError(f'{path} and {series[number].name} have the same frame number')
      series[number] = path
  if not by_prefix:
    raise ClipError(
      f'{unnumbered[0]} has no frame number at the end of its name'
      if unnumbered
      else f'{folder} has no image'
    )
  prefix = _PREFERRED_PREFIX if _PREFERRED_PREFIX in by_prefix else next(iter(by_prefix))
  if len(by_prefix) > 1 and prefix != _PREFERRED_PREFIX:
    names = ', '.join(f'{name}*' for name in by_prefix)
    raise ClipError(f'{folder} has more than one series of images: {names}')
  images = dict(sorted(by_prefix[prefix].items()))
  remarks = {}
  gaps = max(images) - min(images) + 1 - len(images)
  if gaps:
    remarks['frames missing in the folder'] = f'{gaps} of {len(images) + gaps}'
  if unnumbered:
    remarks['images without a frame number'] = f'{len(unnumbered)}, such as {unnumbered[0].name}'
  return images, remarks


def _read_image(path: pathlib.Path) -> np.ndarray:
  """Returns u8[H, W, 3], RGB; raises a `ClipError` if the image is incomplete."""
  content = path.read_bytes()
  try:
    image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
  except cv2.error:  # It is empty, or states an absurd size.
    image = None
  # The decoder fills the missing part of a cut JPEG with gray. The end of the image is searched
  # before the end of the file, as some programs append bytes.
  cut = path.suffix.lower() in ('.jpg', '.jpeg') and records.JPEG_END not in content[-64:]
  if image is None or cut:
    raise ClipError(f'{path} is not a complete image')
  return image
