"""Licenses of models are those that their cards state, and restrictions are recognized."""

import pytest

from zsar_jax.mask_making import licences


@pytest.mark.parametrize(
  ('card', 'expected'),
  [
    ('---\nlicense: mit\ntags: [a]\n---\n# Model', 'mit'),
    ('---\nlicense: other\nlicense_name: sam-license\n---\n', 'sam-license'),
    ('---\nlicense: [mit, cc-by-4.0]\n---\n', 'mit, cc-by-4.0'),
    ('---\ntags: [a]\n---\nlicense: mit', 'Apache-2.0'),  # Not in the head.
    ('# Model\n---\nlicense: mit\n---\n', 'Apache-2.0'),
    ('---\nlicense: !!python/object/apply:os.system [exit]\n---\n', 'Apache-2.0'),
    ('---\nlicense: {a: [\n---\n', 'Apache-2.0'),
    ('---\nlicense: {a: b}\n---\n', 'Apache-2.0'),
    ('', 'Apache-2.0'),
  ],
)
def test_the_card_takes_precedence_over_the_family(card, expected):
  assert licences.model_licences('rf_detr', card) == {'code': 'Apache-2.0', 'weights': expected}


def test_unknown_models_have_no_license():
  unknown = licences.model_licences('detr', '')
  assert unknown == {'code': licences.UNKNOWN, 'weights': licences.UNKNOWN}


@pytest.mark.parametrize(
  ('licence', 'restriction'),
  [
    ('Apache-2.0', None),
    ('mit', None),
    ('lgpl-3.0', None),
    (licences.UNKNOWN, None),
    ('agpl-3.0', 'also as a service'),
    ('GPL-3.0', 'must be published under the same license'),
    ('cc-by-nc-4.0', 'commercial use is excluded'),
    ('CC-BY-NC-SA-4.0', 'commercial use is excluded'),
    ('sam-license', 'publications must acknowledge it'),
    ('DINOv3 License', 'terms of its own'),
    ('other', 'terms of its own'),
    (licences.model_licences('oneformer', '')['weights'], 'read which of them applies'),
  ],
)
def test_restrictions(licence, restriction):
  sentences = licences.restrictions({'code': 'Apache-2.0', 'weights': licence})
  if restriction is None:
    assert sentences == []
  else:
    (sentence,) = sentences
    assert sentence.startswith(f'license of the weights: {licence}; ')
    assert restriction in sentence
