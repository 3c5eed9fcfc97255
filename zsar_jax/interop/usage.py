"""How clips and class names reached a model in its training, so that they do so again."""

import dataclasses

from ml_collections import ConfigDict

from zsar_jax.data.geometry import INTERPOLATIONS, RESIZES
from zsar_jax.text.names import PLACEHOLDERS

# The tokenizers that have no files.
_NAMED = ('clip', 'words')


@dataclasses.dataclass(frozen=True)
class Usage:
  """How clips become frames and class names texts; the defaults are CLIP's.

  Attributes:
    interpolation: see `View`.
    resize: see `View`.
    centre_crop: see `View`.
    templates: see `ClassTexts`.
    split_words: see `ClassTexts`.
    placeholders: see `ClassTexts`.
    tokenizer: 'clip' or 'words'; '' is that of the files beside the weights, or 'clip'.

  Raises:
    TypeError, ValueError: for fields that cannot be.
  """

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
      self.interpolation in INTERPOLATIONS
      and self.resize in RESIZES
      and 0 < self.centre_crop <= 1
      and all(isinstance(template, str) for template in self.templates)
      and isinstance(self.split_words, bool)
      and self.placeholders in PLACEHOLDERS
      and self.tokenizer in ('', *_NAMED)
    ):
      raise ValueError(f'{self} is none')

  @classmethod
  def from_config(cls, config: ConfigDict) -> 'Usage':
    """That of a run's config."""
    view, text = config.view, config.text
    return cls(
      interpolation=view.interpolation,
      resize=view.resize,
      centre_crop=view.centre_crop,
      templates=text.templates,
      split_words=text.split_words,
      placeholders=text.placeholders,
      tokenizer=text.tokenizer if text.tokenizer in _NAMED else '',
    )


CLIP = Usage()
