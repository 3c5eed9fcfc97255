"""A model to use without a config: it names actions in video files and arrays.

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
from zsar_jax.data.sampling import segment_indices
from zsar_jax.data.view import View
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.models.layers import Compute
from zsar_jax.models.video_model import Encoded, Params, VideoModel
from zsar_jax.ops.photometric import normalize, to_float
from zsar_jax.runtime.paths import local_path
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import has_vocabulary, make_tokenizer
from zsar_jax.weights.formats.hints import PYTHON, Hints
from zsar_jax.weights.formats.infer import infer_spec
from zsar_jax.weights.formats.load import LoadReport, fit_to_model
from zsar_jax.weights.formats.read import read_weights

# A file, a folder of frames, or u8[T, H, W, 3] RGB frames: an array of any library, or a list of
# the frames.
Video = str | os.PathLike[str] | ArrayLike

# Texts that are encoded at a time.
_MOST_TEXTS = 64


@dataclasses.dataclass(frozen=True)
class Model:
  """A model with its weights.

  Attributes:
    model: the functions.
    params: the weights.
    texts: how class names become tokens.
    view: how a clip becomes T frames of S x S pixels.
    report: what was read of the weights.
  """

  model: VideoModel
  params: Params
  texts: ClassTexts
  view: View
  report: LoadReport
  # The last classes and their embeddings.
  _last: dict[tuple[str, ...], np.ndarray] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def encode_video(self, video: Video) -> np.ndarray:
    """Embeds a video: f32[E], of unit length.

    That of a `window` model is shorter: the mean of its frames', each of unit length.

    Raises:
      UserError: if it cannot be read.
    """
    return np.asarray(self._encode(video)['embedding'][0])

  def encode_text(self, classes: Sequence[str]) -> np.ndarray:
    """Embeds class names, written into the templates.

    Classes of an `xclip` model look at the video before they are compared with it: their
    embeddings here come before that, are not of unit length, and their products with
    `encode_video` mean nothing. Take `similarity`.

    Returns:
      f32[C, E], the mean over the templates, of unit length.

    Raises:
      UserError: where no class is named, or one twice, or a text does not fit into the context.
    """
    return self._encode_classes(_checked(classes)).copy()

  def similarity(self, video: Video, classes: Sequence[str]) -> np.ndarray:
    """Cosines of a video with class names: f32[C].

    Raises:
      UserError: if the video cannot be read, or as `encode_text`.
    """
    texts = self._encode_classes(_checked(classes))
    return np.asarray(_cosines(self.model, self.params, self._encode(video), texts))

  def zero_shot(self, video: Video, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Names the action.

    Args:
      video: a video.
      classes: what it may be; two or more.

    Returns:
      Each class with its probability among them, the likeliest first.

    Raises:
      UserError: if the video cannot be read, or there are not two classes, or the model's scores
        are not finite, or as `encode_text`.
    """
    classes = _checked(classes)
    if len(classes) < 2:
      raise UserError(f'zero_shot needs two classes or more to choose from, not {len(classes)}')
    cosines = self.similarity(video, classes)
    if not np.isfinite(cosines).all():
      raise UserError(
        "the model's scores of this video are not finite, so they name no class; its training may"
        ' have diverged, take another checkpoint'
      )
    shares = np.asarray(jax.nn.softmax(jnp.exp(self.params['logit_scale']) * cosines))
    order = np.argsort(-shares, kind='stable')
    return [(classes[place], float(shares[place])) for place in order]

  def frames(self, video: Video) -> np.ndarray:
    """The frames that the model sees of a video: u8[T, S, S, 3], RGB."""
    view = self.view
    if not isinstance(video, str | os.PathLike):
      video = _array(video)
      frames = [video[n] for n in segment_indices(len(video), view.num_frames)]
    else:
      try:
        stored = read_video(local_path(video, 'video'), Storage(keep=f'segments:{view.num_frames}'))
      except records.ClipError as error:
        raise UserError(error.reason) from None
      places = segment_indices(len(stored.jpegs), view.num_frames)
      frames = [records.decode_frame(stored.jpegs[n]) for n in places]
    height, width = frames[0].shape[:2]
    box = center_crop(height, width, view.centre_crop, resize=view.resize)
    return np.stack([resize_frame(frame, box, view.size, view.interpolation) for frame in frames])

  def _encode(self, video: Video) -> Encoded:
    return _encode_frames(self.model, self.params, self.frames(video)[None])

  def _encode_classes(self, classes: tuple[str, ...]) -> np.ndarray:
    """See `encode_text`; the classes that were asked for last are not encoded again."""
    if classes not in self._last:
      # As few sizes as may be, for each is compiled.
      chunk = min(_MOST_TEXTS, 2 ** (len(classes) - 1).bit_length())
      tokens = self.texts.tokens(classes, multiple=chunk)  # [P, C', L]
      tokens = tokens.reshape(len(tokens), -1, chunk, tokens.shape[-1])
      texts = np.asarray(_encode_texts(self.model, self.params, tokens))[: len(classes)]
      if self.model.video.temporal != 'xclip':
        texts = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
      self._last.clear()
      self._last[classes] = texts
    return self._last[classes]


def _array(video: ArrayLike) -> np.ndarray:
  """A video that is given as its frames, as u8[T, H, W, 3].

  Raises:
    UserError: it is something else.
  """
  try:
    array = np.asarray(video)
    what = f'{array.dtype}{list(array.shape)}'
    fits = array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3 and len(array)
  except (RuntimeError, TypeError, ValueError) as error:  # Of other libraries' arrays, and lists.
    what, fits = f'{type(video).__name__} ({error})', False
  if not fits:
    raise UserError(f'a video must be u8[T, H, W, 3], RGB, or the path of one, not {what}')
  return array


def _checked(classes: Sequence[str]) -> tuple[str, ...]:
  """The names of classes.

  Raises:
    UserError: where they are no list of different names.
  """
  if isinstance(classes, str):
    raise UserError(f'classes: {classes!r} is one text; give a list of names')
  names = tuple(classes)
  if not names:
    raise UserError('classes: no class is named; give a list of names')
  for name, count in collections.Counter(names).items():
    if not isinstance(name, str):
      raise UserError(f'classes: {name!r} is no text; give a list of names')
    if count > 1:
      raise UserError(f'classes: {name!r} is named {count} times; name each class once')
  return names


# These are compiled once for a model and the shapes of what they get.


@functools.partial(jax.jit, static_argnums=0)
def _encode_frames(model: VideoModel, params: Params, frames: jax.Array) -> Encoded:
  return model.encode_video(params, normalize(to_float(frames)))


@functools.partial(jax.jit, static_argnums=0)
def _encode_texts(model: VideoModel, params: Params, tokens: jax.Array) -> jax.Array:
  """The means over P templates [N * K, E] of N chunks of K texts, i32[P, N, K, L]."""
  # One chunk at a time, for memory.
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
  dtype: DTypeLike = jnp.float32,
  hints: Hints = PYTHON,
) -> Model:
  """Loads a model.

  Args:
    source: the workdir of a run, a file or folder of weights of any format that
      `zsar convert` reads, or 'hf://OWNER/NAME'.
    templates: sentences for class names, each with one '{}', or one such; by default those of its
      training, or 'a photo of a {}.'.
    tokenizer: see `config.text.tokenizer`; by default that of its training, or the files beside
      the weights, or CLIP's.
    num_frames: T, by default the run's, or as the weights say.
    tokens_from: for weights of ViFi-CLIP, CLIP weights to take the token embedding from.
    dtype: what is computed in.
    hints: what the settings are called where the user sets them, for errors.

  Raises:
    UserError: if the weights cannot be had, read or made a model of.
  """
  if num_frames is not None and (not isinstance(num_frames, int | np.integer) or num_frames < 1):
    raise UserError(f'num_frames: {num_frames!r} must be a whole number, at least 1')
  source = os.fspath(source)
  weights = read_weights(source, hints.source, tokens_from=os.fspath(tokens_from), hints=hints)
  spec, video = infer_spec(weights)
  if num_frames is not None:
    video = dataclasses.replace(video, num_frames=int(num_frames))
  model = VideoModel(spec, video, Compute(dtype))
  params, report = fit_to_model(weights, model)
  preprocessing = weights.preprocessing
  view = View(
    num_frames=video.num_frames,
    size=spec.resolution,
    interpolation=preprocessing.interpolation,
    resize=preprocessing.resize,
    centre_crop=preprocessing.centre_crop,
  )
  tokenizer = tokenizer or preprocessing.tokenizer
  if not tokenizer:
    tokenizer = str(weights.folder) if has_vocabulary(weights.folder) else 'clip'
  texts = ClassTexts(
    make_tokenizer(
      os.fspath(tokenizer),
      spec.vocab_size,
      spec.context_length - video.text_prompts,
      hints.tokenizer,
    ),
    (templates,) if isinstance(templates, str) else tuple(templates or preprocessing.templates),
    split_words=preprocessing.split_words,
    placeholders=preprocessing.placeholders,
    num_prompts=video.text_prompts,
    templates_field=hints.templates,
  )
  return Model(model, jax.device_put(params), texts, view, report)
