"""A model to use without a config: it names actions in video files and arrays.

Letters in shapes: B clips, T frames, H and W pixels, C classes, E embedding.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from zsar_jax.checkpoint import has_checkpoint
from zsar_jax.data import records
from zsar_jax.data.geometry import centre_crop, resize_frame
from zsar_jax.data.pipeline import View
from zsar_jax.data.sampling import segment_indices
from zsar_jax.data.video import Storage, read_video
from zsar_jax.errors import UserError
from zsar_jax.interop import runs
from zsar_jax.interop.infer import infer_spec
from zsar_jax.interop.load import LoadReport, fit
from zsar_jax.interop.weights import read_weights
from zsar_jax.models.layers import Compute
from zsar_jax.models.video_clip import Encoded, Params, VideoModel
from zsar_jax.ops.photometric import normalise
from zsar_jax.ops.prepare import to_float
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import TOKENIZER_FILES, make_tokenizer

# A file, a folder of frames, or u8[T, H, W, 3] RGB frames.
Video = str | os.PathLike[str] | np.ndarray

# What is said of an action where nobody says otherwise; ViFi-CLIP's.
TEMPLATES = ('a photo of a {}.',)


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

  def encode_video(self, video: Video) -> np.ndarray:
    """Embeds a video: f32[E], of unit length.

    Raises:
      UserError: if it cannot be read.
    """
    return np.asarray(self._encode(video)['embedding'][0])

  def encode_text(self, classes: Sequence[str]) -> np.ndarray:
    """Embeds class names, written into the templates: f32[C, E], the mean over the templates."""
    tokens = self.texts.tokens(classes, multiple=1)  # [P, C, L]
    encode = jax.jit(jax.vmap(self.model.encode_text, in_axes=(None, 0)))
    return np.asarray(encode(self.params, tokens).mean(axis=0))

  def zero_shot(self, video: Video, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Names the action.

    Args:
      video: a video.
      classes: what it may be; two or more.

    Returns:
      Each class with its probability among them, the likeliest first.

    Raises:
      UserError: if the video cannot be read, or there are not two classes.
    """
    if len(classes) < 2:
      raise UserError(f'zero_shot needs two classes or more to choose from, not {len(classes)}')
    texts = jnp.asarray(self.encode_text(classes))
    cosines = jax.jit(self.model.similarity)(self.params, self._encode(video), texts)[0]
    shares = np.asarray(jax.nn.softmax(jnp.exp(self.params['logit_scale']) * cosines))
    order = np.argsort(-shares, kind='stable')
    return [(classes[place], float(shares[place])) for place in order]

  def frames(self, video: Video) -> np.ndarray:
    """The frames that the model sees of a video: u8[T, S, S, 3], RGB."""
    view = self.view
    if isinstance(video, np.ndarray):
      if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or not len(video):
        raise UserError(
          f'a video must be u8[T, H, W, 3], RGB, not {video.dtype}{list(video.shape)}'
        )
      frames = [video[n] for n in segment_indices(len(video), view.num_frames)]
    else:
      try:
        stored = read_video(video, Storage(keep=f'segments:{view.num_frames}'))
      except records.ClipError as error:
        raise UserError(error.reason) from None
      places = segment_indices(len(stored.jpegs), view.num_frames)
      frames = [records.decode_frame(stored.jpegs[n]) for n in places]
    box = centre_crop(*frames[0].shape[:2], view.centre_crop)
    return np.stack([resize_frame(frame, box, view.size, view.interpolation) for frame in frames])

  def _encode(self, video: Video) -> Encoded:
    return _encode_frames(self.model, self.params, self.frames(video)[None])


@functools.partial(jax.jit, static_argnums=0)
def _encode_frames(model: VideoModel, params: Params, frames: jax.Array) -> Encoded:
  return model.encode_video(params, normalise(to_float(frames)))


def load(
  source: str,
  *,
  templates: Sequence[str] | None = None,
  tokenizer: str | None = None,
  num_frames: int | None = None,
  tokens_from: str = '',
  dtype: DTypeLike = jnp.float32,
) -> Model:
  """Loads a model.

  Args:
    source: the workdir of a run, a file or folder of weights of any format that
      `tools.convert_checkpoint` reads, or 'hf://OWNER/NAME'.
    templates: sentences for class names, each with one '{}'; by default the run's, or `TEMPLATES`.
    tokenizer: see `config.text.tokenizer`; by default the run's, or the files beside the weights,
      or CLIP's.
    num_frames: T, by default the run's, or as the weights say.
    tokens_from: for weights of ViFi-CLIP, CLIP weights to take the token embedding from.
    dtype: what is computed in.

  Raises:
    UserError: if the weights cannot be had, read or made a model of.
  """
  weights = read_weights(source, 'source', tokens_from=tokens_from)
  spec, video = infer_spec(weights)
  if num_frames is not None:
    video = dataclasses.replace(video, num_frames=num_frames)
  model = VideoModel(spec, video, Compute(dtype))
  params, report = fit(weights, model)
  view = View(num_frames=video.num_frames, size=spec.resolution, interpolation='bicubic')
  run = pathlib.Path(source)
  if run.is_dir() and has_checkpoint(run):
    config = runs.saved_config(run)
    view = dataclasses.replace(View.from_config(config), num_frames=video.num_frames)
    templates = templates or config.text.templates
    tokenizer = tokenizer or config.text.tokenizer
  if tokenizer is None:
    beside = any((weights.folder / name).is_file() for name in TOKENIZER_FILES)
    tokenizer = str(weights.folder) if beside else 'clip'
  texts = ClassTexts(
    make_tokenizer(tokenizer, spec.vocab_size, spec.context_length - video.text_prompts),
    tuple(templates or TEMPLATES),
    split_words=True,
    placeholders='keep',
    learnt=video.text_prompts,
  )
  return Model(model, jax.device_put(params), texts, view, report)
