"""Reads a video, from a file or from a folder of its frames, into the JPEGs that are stored."""

import dataclasses
import os
import pathlib

import av

from zsar_jax.data.records import ClipError
from zsar_jax.data.sampling import SAMPLINGS
from zsar_jax.datasets.borrowing import borrow, name_originals
from zsar_jax.datasets.frame_folder import read_frame_folder
from zsar_jax.datasets.video import DEFAULT_FPS, AnnotatedFrames, Storage, StoredVideo
from zsar_jax.datasets.video_decoding import read_video_file


def read_video(
  path: str | os.PathLike[str],
  storage: Storage,
  folder_fps: float = DEFAULT_FPS,
  annotated: AnnotatedFrames | None = None,
) -> StoredVideo:
  """Reads a video file, with its frames turned upright, or a folder of frames.

  Args:
    path: the file, or the folder of images whose names end with their numbers; a path or a URL.
    storage: which frames and pixels to keep.
    folder_fps: frames per second of a folder of frames.
    annotated: returns the annotated frames, if those are preferred among the kept ones.

  Raises:
    ClipError: if it does not exist, is cut short, has no frames or is no video.
  """
  with borrow(os.fspath(path)) as copy:
    video = _read(copy, storage, folder_fps, annotated)
    remarks = {kind: name_originals(details) for kind, details in video.remarks.items()}
    return dataclasses.replace(video, remarks=remarks)


def _read(
  path: str, storage: Storage, folder_fps: float, annotated: AnnotatedFrames | None
) -> StoredVideo:
  """`read_video` for a path of this machine."""
  if not os.path.exists(path):
    raise ClipError(f'{path} does not exist', missing=True)
  if os.path.isdir(path):
    video = read_frame_folder(pathlib.Path(path), storage, folder_fps, annotated)
  elif not os.path.getsize(path):
    raise ClipError(f'{path} is an empty file')
  else:
    try:
      video = read_video_file(path, storage, annotated)
    # Some subclasses of FFmpegError are also OSErrors or ValueErrors, and some are not.
    except (av.FFmpegError, OSError, ValueError) as error:
      reason = getattr(error, 'strerror', None) or error  # str(error) would repeat the path.
      raise ClipError(f'{path} cannot be decoded ({reason})') from None
  rule, _, number = storage.keep.partition(':')
  if rule in SAMPLINGS and len(video.jpegs) < int(number):
    video.remarks['fewer frames than asked'] = f'{len(video.jpegs)} of {number}'
  return video
