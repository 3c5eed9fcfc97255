"""Licenses of the models that make masks, for records of how masks were made.

A license is recorded as the model's own card states it, or else as published for its family. The
families' licenses were read in the repositories of the models in 2026; those marked 'not verified'
come from secondary sources. The code that runs is that of `transformers` or torchvision.
"""

import re
from typing import NamedTuple

from zsar_jax.runtime.model_cards import card_license

# Recorded where neither the card nor the table states a license.
UNKNOWN = 'not known; see the model card'

_NO_CARD = 'not known, as the folder has no model card'

_VARIES = 'MIT or CC-BY-NC, by checkpoint; see the model card'


class _Family(NamedTuple):
  code: str
  weights: str


# The licenses of the original code and of the published weights, by `model_type`.
_FAMILIES = {
  # github.com/roboflow/rf-detr: Apache-2.0 for all sizes of its segmentation models.
  'rf_detr': _Family('Apache-2.0', 'Apache-2.0'),
  # github.com/facebookresearch/sam2.
  'sam2': _Family('Apache-2.0', 'Apache-2.0'),
  'sam2_video': _Family('Apache-2.0', 'Apache-2.0'),
  # github.com/facebookresearch/sam3.
  'sam3': _Family('SAM License', 'SAM License'),
  'sam3_video': _Family('SAM License', 'SAM License'),
  # github.com/IDEA-Research/Grounded-SAM-2.
  'grounding-dino': _Family('Apache-2.0', 'Apache-2.0'),
  # github.com/open-mmlab/mmdetection. The weights are those of several projects.
  'mm-grounding-dino': _Family('Apache-2.0', UNKNOWN),
  # github.com/google-research/scenic, and the model cards of google/owlv2-*.
  'owlv2': _Family('Apache-2.0', 'Apache-2.0'),
  'owlvit': _Family('Apache-2.0', 'Apache-2.0 (not verified)'),
  'mask2former': _Family('MIT (not verified)', _VARIES),
  'oneformer': _Family('MIT (not verified)', _VARIES),
  'eomt': _Family('MIT (not verified)', UNKNOWN),
  'eomt_dinov3': _Family('MIT (not verified)', 'DINOv3 License'),
  'torchvision': _Family('BSD-3-Clause (not verified)', 'BSD-3-Clause (not verified)'),
}

# What a license restricts. The first pattern that matches counts.
_RESTRICTIONS = (
  (r' or ', 'read which of them applies to your checkpoint'),
  (r'agpl', 'software that uses it must be published under the same license, also as a service'),
  (r'(?<!l)gpl', 'software that contains it must be published under the same license'),
  (r'nc\b|non-?commercial', 'commercial use is excluded'),
  (
    r'sam[ -_]license',
    'publications must acknowledge it, and some uses are excluded',
  ),
  (r'dinov3|pml|other|custom', 'it has terms of its own'),
)


def model_licenses(model_type: str, card: str | None) -> dict[str, str]:
  """Returns the licenses of a model.

  Args:
    model_type: the key of its family in `transformers`, or 'torchvision'.
    card: the text of its README.md on the hub, whose YAML head may state a license; None for a
      folder without it, whose weights may be anybody's.

  Returns:
    {'code': ..., 'weights': ...}.
  """
  family = _FAMILIES.get(model_type, _Family(UNKNOWN, UNKNOWN))
  if card is None:
    return {'code': family.code, 'weights': f'{_NO_CARD}; published weights: {family.weights}'}
  return {'code': family.code, 'weights': card_license(card) or family.weights}


def join_licenses(*parts: dict[str, str]) -> dict[str, str]:
  """Returns the licenses of models that make masks together: 'A and B' where they differ."""
  return {
    part: ' and '.join(dict.fromkeys(licenses[part] for licenses in parts))
    for part in ('code', 'weights')
  }


def restrictions(licenses: dict[str, str]) -> list[str]:
  """Returns a sentence for each license that restricts the use, to be printed before work begins.

  Args:
    licenses: the result of `model_licenses`.
  """
  sentences = []
  for part, license in licenses.items():
    for pattern, consequence in _RESTRICTIONS:
      if re.search(pattern, license, re.IGNORECASE):
        sentences.append(f'license of the {part}: {license}; {consequence}')
        break
  return sentences
