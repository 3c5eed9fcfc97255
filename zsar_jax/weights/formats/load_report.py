"""The report of a load: matched, missing and unused arrays, and notes for the user."""

import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Sequence

from zsar_jax.models.video_model import VideoModel
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.formats.preprocessing import Preprocessing, describe_differences
from zsar_jax.weights.formats.read import Weights

# Formats of image models. They were not trained on actions, so that a video model that starts from
# them may choose its own preprocessing.
_IMAGE_FORMATS = (
  'openai',
  'open_clip',
  'hf_clip',
  'scenic',
  'pe_core',
  'open_clip_pe_core',
  'open_clip_eva02',
  'hf_siglip',
  'open_clip_siglip',
  'big_vision_siglip',
)


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """The use of the arrays of a file, and the sources of the parameters of a model.

  Attributes:
    path: the file or folder.
    format: the name of its format.
    matched: the number of parameters whose values were read.
    missing: the parameters without values in the file, which the rules allow.
    left_over: the keys that the model does not use, which the rules allow.
    dropped: the keys that the model does not need.
    interpolated: the parameters that were interpolated, with old and new shape.
    notes: further sentences for the user.
  """

  path: pathlib.Path
  format: str
  matched: int
  missing: tuple[str, ...]
  left_over: tuple[str, ...]
  dropped: tuple[str, ...]
  interpolated: tuple[str, ...]
  notes: tuple[str, ...]

  def describe(self) -> str:
    """Returns the report as a few lines, with the blocks of a tower combined."""
    lines = [f'{self.path}: {self.format}, {pluralize(self.matched, "array")} matched']
    for name in ('missing', 'left_over', 'dropped'):
      paths = getattr(self, name)
      if paths:
        lines.append(f'  {name.replace("_", " ")}: {len(paths)} ({_summarize(paths)})')
    lines += [f'  interpolated: {line}' for line in self.interpolated]
    return '\n'.join([*lines, *(f'  {note}' for note in self.notes)])


def _summarize(names: Sequence[str]) -> str:
  """Lists the first names; names that differ only in numbers are combined."""
  patterns = Counter(re.sub(r'(?<=[/.])\d+(?=[/.])', '*', name) for name in names)
  parts = [name if count == 1 else f'{name} x {count}' for name, count in patterns.items()]
  return ', '.join(parts[:6] + (['...'] if len(parts) > 6 else []))


def notes_of(
  weights: Weights, model: VideoModel, preprocessing: Preprocessing | None
) -> tuple[str, ...]:
  """Returns the notes on weights that are loaded into a model.

  Args:
    weights: the weights.
    model: the model.
    preprocessing: the preprocessing of the model; None if it is that of the weights.
  """
  notes = [*weights.notes, *_assumptions(weights, model), *_model_differences(weights, model)]
  if preprocessing is not None and weights.format.name not in _IMAGE_FORMATS:
    notes += describe_differences(weights.preprocessing, preprocessing)
  return tuple(notes)


def _assumptions(weights: Weights, model: VideoModel) -> list[str]:
  """Returns a note if the activation and the number of heads are not in the files."""
  if not weights.lacks_description:
    return []
  spec, hints = model.spec, weights.hints
  heads = f'{spec.image_heads} image heads, {spec.text_heads} text heads'
  if weights.preset or spec.architecture != 'clip':
    activation = spec.parts.activation
    return [
      f'the activation and the heads are not given: they are those of {hints.preset} ({activation},'
      f' {heads})'
    ]
  return [
    "the activation and the heads are not given: as in OpenAI's models, quick GELU and heads of"
    f' width 64 are assumed ({heads}); if that is wrong, name the model in {hints.preset}'
  ]


def _model_differences(weights: Weights, model: VideoModel) -> list[str]:
  """Returns notes on differences between the trained model and the model that is loaded."""
  notes = []
  prefix = weights.hints.model
  trained, loaded = weights.tower_fields['normalization'], model.spec.normalization
  if trained != loaded:
    notes.append(f'{prefix}normalization: {loaded!r} here, and {trained!r} in its training')
  elif loaded != 'clip':
    notes.append(f'normalization: {loaded}')
  trained, loaded = weights.video_fields.get('temporal'), model.video.temporal
  if trained and trained != loaded:
    notes.append(f'{prefix}temporal: {loaded!r} here, and {trained!r} in its training')
  return notes
