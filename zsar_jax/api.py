"""Loads a model without a config to recognize actions in video files and arrays.

Letters in shapes: B clips, T frames, H and W pixels, C classes, E embedding.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from zsar_jax.data import records
from zsar_jax.data.geometry import center_crop, resize_frame
from zsar_jax.data.sampling import evaluation_indices
from zsar_jax.data.view import View
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.models.compute import choose_compute
from zsar_jax.models.video_model import Encoded, Params, VideoModel
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.storage.paths import path_text
from zsar_jax.text.classes import ClassTexts
from zsar_jax.weights.formats.hints import PYTHON, Hints
from zsar_jax.weights.formats.load_report import LoadReport
from zsar_jax.weights.named_model import load_model

# A file or a folder of frames, also as a URL; or RGB frames u8[T, H, W, 3], as an array of any
# library or as a list.
Video = str | os.PathLike[str] | ArrayLike

# The maximum number of texts that are encoded at a time.
_MAX_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Model:
  """A model with its weights.

  Attributes:
    model: the functions of the model.
    params: the weights.
    texts: converts class names to tokens.
    view: describes how a clip becomes T frames of S x S pixels.
    report: the differences between the weights and the model.
  """

  model: VideoModel
  params: Params
  texts: ClassTexts
  view: View
  report: LoadReport
  # The embeddings of the classes of the last call.
  _class_cache: dict[tuple[str, ...], np.ndarray] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def encode_video(self, video: Video) -> np.ndarray:
    """Returns the embedding of a video, f32[E], of unit length.

    The embedding of a `window` model is shorter, because it is the mean of frame embeddings of unit
    length.

    Raises:
      UserError: if the video cannot be read.
    """
    return np.asarray(self._encode(video)['embedding'][0])

  def encode_text(self, classes: Sequence[str]) -> np.ndarray:
    """Returns the embeddings of class names, each the mean over the templates.

    In an `xclip` model, class embeddings attend to the video before they are compared with it. This
    function returns them before that step: they do not have unit length, and their products with
    `encode_video` are meaningless. Use `similarity` instead.

    Returns:
      f32[C, E], of unit length.

    Raises:
      UserError: if there are no classes, a class is repeated, or a text exceeds the context length.
    """
    return self._encode_classes(_check_classes(classes)).copy()

  def similarity(self, video: Video, classes: Sequence[str]) -> np.ndarray:
    """Returns the cosine similarities of a video and class names, f32[C].

    Raises:
      UserError: if the video cannot be read, or as `encode_text` raises it.
    """
    texts = self._encode_classes(_check_classes(classes))
    return np.asarray(_cosines(self.model, self.params, self._encode(video), texts))

  def zero_shot(self, video: Video, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Recognizes the action in a video.

    Args:
      video: a video.
      classes: the names of two or more possible actions.

    Returns:
      The classes with their probabilities, the most probable first.

    Raises:
      UserError: if the video cannot be read, there are fewer than two classes, or the scores are
        not finite, or as `encode_text` raises it.
    """
    classes = _check_classes(classes)
    if len(classes) < 2:
      raise UserError(f'classes: zero_shot needs two classes or more, not {len(classes)}')
    cosines = self.similarity(video, classes)
    if not np.isfinite(cosines).all():
      raise UserError(
        "the model's scores of this video are not finite; its training may have diverged, use"
        ' another checkpoint'
      )
    logits = self.model.scale_cosines(self.params, jnp.asarray(cosines))
    probabilities = np.asarray(jax.nn.softmax(logits))
    order = np.argsort(-probabilities, kind='stable')
    return [(classes[index], float(probabilities[index])) for index in order]

  def frames(self, video: Video) -> np.ndarray:
    """Returns the frames of a video that the model receives, RGB u8[T, S, S, 3]."""
    view = self.view
    if not isinstance(video, str | os.PathLike):
      array = _to_array(video)
      indices = evaluation_indices(len(array), view.num_frames, view.sampling)
      frames = [array[index] for index in indices]
    else:
      try:
        storage = Storage(keep=f'{view.sampling}:{view.num_frames}')
        stored = read_video(path_text(os.fspath(video), 'video'), storage)
      except records.ClipError as error:
        raise UserError(error.reason) from None
      indices = evaluation_indices(len(stored.jpegs), view.num_frames, view.sampling)
      frames = [records.decode_frame(stored.jpegs[index]) for index in indices]
    height, width = frames[0].shape[:2]
    box = center_crop(height, width, view.centre_crop, resize=view.resize)
    return np.stack([resize_frame(frame, box, view.size, view.interpolation) for frame in frames])

  def _encode(self, video: Video) -> Encoded:
    return _encode_frames(self.model, self.params, self.frames(video)[None])

  def _encode_classes(self, classes: tuple[str, ...]) -> np.ndarray:
    """See `encode_text`; repeated calls with the same classes encode them only once."""
    if classes not in self._class_cache:
      # Powers of two, because each chunk size is compiled.
      chunk = min(_MAX_CHUNK, 2 ** (len(classes) - 1).bit_length())
      tokens = self.texts.tokens(classes, multiple=chunk)  # [P, C', L]
      tokens = tokens.reshape(len(tokens), -1, chunk, tokens.shape[-1])
      texts = np.asarray(_encode_texts(self.model, self.params, tokens))[: len(classes)]
      if self.model.video.temporal != 'xclip':
        texts = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
      self._class_cache.clear()
      self._class_cache[classes] = texts
    return self._class_cache[classes]


def _to_array(video: ArrayLike) -> np.ndarray:
  """Returns the frames of a video as u8[T, H, W, 3].

  Raises:
    UserError: if they have another shape or dtype.
  """
  try:
    array = np.asarray(video)
    actual = f'{array.dtype}{list(array.shape)}'
    is_valid = array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3 and len(array)
  except (RuntimeError, TypeError, ValueError) as error:
    # Raised for arrays of other libraries and for lists of frames of different sizes.
    actual, is_valid = f'{type(video).__name__} ({error})', False
  if not is_valid:
    raise UserError(f'a video must be RGB frames u8[T, H, W, 3] or a path, not {actual}')
  return array


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
  """Checks class names and returns them as a tuple.

  Raises:
    UserError: if they are not a list of distinct names.
  """
  if isinstance(classes, str):
    raise UserError(f'classes: {classes!r} is a string; give a list of names')
  names = tuple(classes)
  if not names:
    raise UserError('classes: the list is empty; give a list of names')
  for name, count in collections.Counter(names).items():
    if not isinstance(name, str):
      raise UserError(f'classes: {name!r} is not a string; give a list of names')
    if count > 1:
      raise UserError(f'classes: {name!r} is repeated {count} times; name each class once')
  return names


# These functions are compiled once per model and argument shapes.


@functools.partial(jax.jit, static_argnums=0)
def _encode_frames(model: VideoModel, params: Params, frames: jax.Array) -> Encoded:
  return model.encode_video(params, normalize(to_float(frames)))


@functools.partial(jax.jit, static_argnums=0)
def _encode_texts(model: VideoModel, params: Params, tokens: jax.Array) -> jax.Array:
  """Returns the embeddings f32[N * K, E] of texts i32[P, N, K, L], means over the P templates."""
  # Encodes one chunk of K texts at a time to bound the memory.
  encoded = jax.lax.map(
    lambda chunks: jax.lax.map(functools.partial(model.encode_text, params), chunks), tokens
  )
  return encoded.mean(axis=0).reshape(-1, encoded.shape[-1])


@functools.partial(jax.jit, static_argnums=0)
def _cosines(model: VideoModel, params: Params, encoded: Encoded, texts: jax.Array) -> jax.Array:
  return model.similarity(params, encoded, texts)[0]


def load(
  source: str | os.PathLike[str],
  *,
  templates: str | Sequence[str] | None = None,
  tokenizer: str | os.PathLike[str] | None = None,
  num_frames: int | None = None,
  tokens_from: str | os.PathLike[str] = '',
  preset: str = '',
  dtype: DTypeLike = jnp.float32,
  hints: Hints = PYTHON,
) -> Model:
  """Loads a model.

  Args:
    source: the workdir of a run, a file or folder of weights in any format that `zsar convert`
      reads, the URL of one of these in a bucket, or 'hf://OWNER/NAME'.
    templates: one or more sentences for class names, each with one '{}'. Defaults to those of the
      training, or 'a photo of a {}.'.
    tokenizer: see `config.text.tokenizer`. Defaults to that of the training, then to the files
      beside the weights, then to CLIP's.
    num_frames: the number of frames T. Defaults to that of the weights.
    tokens_from: the CLIP weights whose token embedding is used, for weights of ViFi-CLIP.
    preset: the name of the model, one of `presets.PRESETS`, for weights without a file that
      describes them, such as 'vit_b16_gelu'. Without it they are taken for OpenAI's.
    dtype: the dtype of the computation, float32 or bfloat16, or 'tensorfloat32', which is faster
      than float32 on NVIDIA GPUs and less exact.
    hints: the names of settings for errors.

  Returns:
    The model, with its parameters on the default device.

  Raises:
    UserError: if the weights do not exist, cannot be read, or are not those of a supported model.
  """
  if num_frames is not None and (not isinstance(num_frames, int | np.integer) or num_frames < 1):
    raise UserError(f'num_frames: {num_frames!r} must be an integer of at least 1')
  name = dtype if isinstance(dtype, str) else jnp.dtype(dtype).name
  loaded = load_model(
    os.fspath(source),
    choose_compute(name),
    templates=(templates,) if isinstance(templates, str) else templates,
    tokenizer=os.fspath(tokenizer or ''),
    num_frames=None if num_frames is None else int(num_frames),
    tokens_from=os.fspath(tokens_from),
    preset=preset,
    hints=hints,
  )
  params = jax.device_put(loaded.params)
  return Model(loaded.model, params, loaded.texts, loaded.view, loaded.report)
