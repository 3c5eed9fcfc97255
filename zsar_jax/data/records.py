"""The record of a clip: what is stored of it, and how its pixels are encoded.

One record is one clip of N frames:

    id         str        unique in its split
    label      int        place of the clip's class in the data set's vocabulary
    frames     N bytes    each frame as a JPEG, RGB
    regions    N bytes    each frame's region plane as a single-channel PNG; b'' where unannotated
    annotated  N bools    whether anybody annotated the frame
    fps        float      frames per second
    height     int        of every frame and plane, in pixels
    width      int

Frames stay encoded until a program samples them, so that only those are decoded.
"""

from typing import Any

import cv2
import numpy as np

from zsar_jax.errors import UserError

JPEG_QUALITY = 90

# The two bytes that end every complete JPEG. The decoder fills what is missing of a cut one
# with grey, and says so on stderr alone.
_JPEG_END = b'\xff\xd9'


class ClipError(Exception):
  """A clip that cannot be built. The build goes on and reports it by its id.

  Attributes:
    reason: what is wrong with the clip.
    missing: whether its file does not exist, rather than cannot be read.
  """

  def __init__(self, reason: str, missing: bool = False):
    super().__init__(reason, missing)
    self.reason = reason
    self.missing = missing


def features(classes: tuple[str, ...]) -> Any:
  """The record's `tfds.features.FeaturesDict`, for a vocabulary of `classes`.

  Encoded images are plain bytes here: the Image feature of TFDS would import TensorFlow.
  """
  # Imported here, so that decoding frames does not need TFDS.
  import tensorflow_datasets as tfds

  encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
  return tfds.features.FeaturesDict(
    {
      'id': encoded,
      'label': tfds.features.ClassLabel(names=list(classes)),
      'frames': tfds.features.Sequence(encoded),
      'regions': tfds.features.Sequence(encoded),
      'annotated': tfds.features.Sequence(tfds.features.Scalar(np.bool_)),
      'fps': tfds.features.Scalar(np.float32),
      'height': tfds.features.Scalar(np.int32),
      'width': tfds.features.Scalar(np.int32),
    }
  )


def encode_clip(
  clip_id: str,
  label: int,
  frames: np.ndarray,
  regions: np.ndarray | None,
  annotated: np.ndarray | None,
  fps: float,
  jpeg_quality: int = JPEG_QUALITY,
) -> dict[str, Any]:
  """The record of a clip.

  Args:
    clip_id: unique in the split.
    label: place of the clip's class in the vocabulary.
    frames: u8[N, H, W, 3], RGB.
    regions: u8[N, H, W] region planes, or None for a clip that nobody annotated.
    annotated: bool[N], or None if every frame is annotated; unused without `regions`.
    fps: frames per second.
    jpeg_quality: 1 to 100.

  Returns:
    The fields of the record by name.
  """
  num_frames, height, width = frames.shape[:3]
  if regions is None:
    annotated = np.zeros(num_frames, bool)
  elif annotated is None:
    annotated = np.ones(num_frames, bool)
  return {
    'id': clip_id,
    'label': label,
    'frames': [_encode_frame(frame, jpeg_quality) for frame in frames],
    'regions': [_encode('.png', regions[n]) if known else b'' for n, known in enumerate(annotated)],
    'annotated': [bool(known) for known in annotated],
    'fps': fps,
    'height': height,
    'width': width,
  }


def decode_frame(jpeg: bytes) -> np.ndarray:
  """The u8[H, W, 3] RGB frame of a JPEG; a `UserError` where it is damaged."""
  if not jpeg.endswith(_JPEG_END):
    raise UserError('a frame is not a complete JPEG; build the data set again')
  frame = _decode(jpeg, cv2.IMREAD_COLOR_RGB)
  if frame is None:
    raise UserError('a frame cannot be decoded as JPEG; build the data set again')
  return frame


def decode_plane(png: bytes, height: int, width: int) -> np.ndarray:
  """The u8[H, W] region plane of an annotated frame.

  Args:
    png: the plane as it is stored; an unannotated frame has none to decode.
    height: the frames' height in pixels.
    width: their width.

  Raises:
    UserError: if the plane is damaged or has not the frames' size.
  """
  plane = _decode(png, cv2.IMREAD_UNCHANGED) if png else None
  if plane is None:
    raise UserError('a region plane cannot be decoded as PNG; build the data set again')
  if plane.shape != (height, width) or plane.dtype != np.uint8:
    raise UserError(
      f'a region plane is {plane.dtype}{list(plane.shape)} where its record says'
      f' uint8[{height}, {width}]; build the data set again'
    )
  return plane


def _decode(encoded: bytes, flags: int) -> np.ndarray | None:
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error:  # A header that states an absurd size.
    return None


def _encode_frame(frame: np.ndarray, quality: int) -> bytes:
  # OpenCV writes images in the order blue, green, red.
  return _encode('.jpg', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), cv2.IMWRITE_JPEG_QUALITY, quality)


def _encode(extension: str, image: np.ndarray, *options: int) -> bytes:
  encoded, buffer = cv2.imencode(extension, image, options)
  assert encoded, f'OpenCV cannot encode {image.dtype}{list(image.shape)} as {extension}'
  return buffer.tobytes()
