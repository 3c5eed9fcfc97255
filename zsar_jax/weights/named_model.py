"""Loads a model by the name of its weights, which describe it together with the files beside them.

`zsar_jax.load`, and evaluations with `config.model.preset='auto'`, load models in this way.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from zsar_jax.data.view import View
from zsar_jax.models.compute import Compute
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime.model_cards import CARD_HEAD, card_license
from zsar_jax.text.classes import ClassTexts
from zsar_jax.text.tokenizers import has_vocabulary, make_tokenizer
from zsar_jax.weights.formats.hints import Hints
from zsar_jax.weights.formats.infer import fixes_num_frames, infer_spec
from zsar_jax.weights.formats.load import fit_to_model
from zsar_jax.weights.formats.load_report import LoadReport
from zsar_jax.weights.formats.read import read_weights


@dataclasses.dataclass(frozen=True)
class NamedModel:
  """A model with its weights and its preprocessing.

  Attributes:
    model: the functions of the model.
    params: the weights, as f32 NumPy arrays.
    texts: converts class names to tokens.
    view: describes how a clip becomes T frames of S x S pixels.
    report: the differences between the weights and the model.
    license: the license that the card beside the weights states; None if there is none.
  """

  model: VideoModel
  params: Params
  texts: ClassTexts
  view: View
  report: LoadReport
  license: str | None


def load_model(
  source: str,
  compute: Compute,
  *,
  templates: Sequence[str] | None = None,
  tokenizer: str = '',
  num_frames: int | None = None,
  default_num_frames: int | None = None,
  tokens_from: str = '',
  preset: str = '',
  hints: Hints,
) -> NamedModel:
  """Loads a model.

  Args:
    source: the workdir of a run, a file or folder of weights in any format that `zsar convert`
      reads, or 'hf://OWNER/NAME'.
    compute: how the model is computed.
    templates: sentences for class names, each with one '{}'; None for those of the training.
    tokenizer: see `config.text.tokenizer`; '' for that of the training, then for the files beside
      the weights, then for CLIP's.
    num_frames: the number of frames T; None for that of the weights.
    default_num_frames: the number of frames if the weights are not for a certain number.
    tokens_from: the CLIP weights whose token embedding is used, for weights of ViFi-CLIP.
    preset: the name of the preset of weights that do not describe their model; '' for none.
    hints: the names of settings for errors.

  Raises:
    UserError: if the weights do not exist, cannot be read, or are not those of a supported model.
  """
  weights = read_weights(source, hints.source, tokens_from=tokens_from, hints=hints, preset=preset)
  spec, video = infer_spec(weights)
  if num_frames is None and not fixes_num_frames(weights):
    num_frames = default_num_frames
  if num_frames is not None:
    video = dataclasses.replace(video, num_frames=num_frames)
  model = VideoModel(spec, video, compute)
  params, report = fit_to_model(weights, model)
  preprocessing = weights.preprocessing
  view = View(
    num_frames=video.num_frames,
    size=spec.resolution,
    sampling=preprocessing.sampling,
    interpolation=preprocessing.interpolation,
    resize=preprocessing.resize,
    centre_crop=preprocessing.centre_crop,
  )
  tokenizer = tokenizer or preprocessing.tokenizer
  if not tokenizer:
    tokenizer = str(weights.folder) if has_vocabulary(weights.folder) else 'clip'
  texts = ClassTexts(
    make_tokenizer(
      tokenizer,
      spec.vocab_size,
      spec.context_length - video.text_prompts,
      hints.tokenizer,
      spec.parts,
    ),
    tuple(templates or preprocessing.templates),
    split_words=preprocessing.split_words,
    placeholders=preprocessing.placeholders,
    num_prompts=video.text_prompts,
    full_context=spec.parts.reads_padding,
    templates_field=hints.templates,
  )
  return NamedModel(model, params, texts, view, report, _license(weights.folder))


def _license(folder: pathlib.Path) -> str | None:
  """Returns the license in the model card of a folder of weights."""
  try:
    with (folder / 'README.md').open(encoding='utf-8', errors='replace') as card:
      return card_license(card.read(CARD_HEAD))
  except OSError:
    return None
