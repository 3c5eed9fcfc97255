"""The preprocessing that a checkpoint expects."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from zsar_jax.data.geometry import INTERPOLATIONS, RESIZES
from zsar_jax.data.sampling import SAMPLINGS
from zsar_jax.text.phrasing import PLACEHOLDERS

# Tokenizers that are chosen by name; all others are read from files.
_NAMED_TOKENIZERS = ('clip', 'words')


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How clips become frames, and class names become texts. The defaults are CLIP's.

  Attributes:
    sampling: see `View`.
    interpolation: see `View`.
    resize: see `View`.
    centre_crop: see `View`.
    templates: see `ClassTexts`.
    split_words: see `ClassTexts`.
    placeholders: see `ClassTexts`.
    tokenizer: 'clip' or 'words'; '' uses the tokenizer files beside the weights, or 'clip' if
      there are none.

  Raises:
    TypeError, ValueError: if a field has an invalid value.
  """

  sampling: str = 'segments'
  interpolation: str = 'bicubic'
  resize: str = 'shortest'
  centre_crop: float = 1.0
  templates: tuple[str, ...] = ('a photo of a {}.',)
  split_words: bool = True
  placeholders: str = 'keep'
  tokenizer: str = ''

  def __post_init__(self):
    object.__setattr__(self, 'templates', tuple(self.templates))
    if not (
      self.sampling in SAMPLINGS
      and self.interpolation in INTERPOLATIONS
      and self.resize in RESIZES
      and 0 < self.centre_crop <= 1
      and all(isinstance(template, str) for template in self.templates)
      and isinstance(self.split_words, bool)
      and self.placeholders in PLACEHOLDERS
      and self.tokenizer in ('', *_NAMED_TOKENIZERS)
    ):
      raise ValueError(f'{self} has an invalid field')

  @classmethod
  def from_config(cls, config: ConfigDict) -> 'Preprocessing':
    """Returns the preprocessing of a run's config."""
    view, text = config.view, config.text
    return cls(
      sampling=view.sampling,
      interpolation=view.interpolation,
      resize=view.resize,
      centre_crop=view.centre_crop,
      templates=text.templates,
      split_words=text.split_words,
      placeholders=text.placeholders,
      tokenizer=text.tokenizer if text.tokenizer in _NAMED_TOKENIZERS else '',
    )


CLIP_PREPROCESSING = Preprocessing()

# The config field of each field that is compared.
_CONFIG_FIELDS = {
  'sampling': 'config.view.sampling',
  'interpolation': 'config.view.interpolation',
  'centre_crop': 'config.view.centre_crop',
  'resize': 'config.view.resize',
  'templates': 'config.text.templates',
  'split_words': 'config.text.split_words',
  'placeholders': 'config.text.placeholders',
}


def describe_differences(trained: Preprocessing, loaded: Preprocessing) -> list[str]:
  """Returns a sentence for each field in which the loaded model differs from the training."""
  sentences = []
  for field, config_field in _CONFIG_FIELDS.items():
    value, trained_value = getattr(loaded, field), getattr(trained, field)
    if value != trained_value:
      sentences.append(
        f'{config_field}: {_format(value)} here, and {_format(trained_value)} in its training'
      )
  return sentences


def _format(value: Any) -> str:
  """Formats a value; of several templates, only the first is shown."""
  if isinstance(value, tuple):
    more = f' and {len(value) - 1} more' if len(value) > 1 else ''
    return f'{value[0]!r}{more}' if value else 'none'
  return f'{value:.4g}' if isinstance(value, float) else repr(value)
