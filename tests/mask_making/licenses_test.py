"""Licenses of models are those that their cards state, and restrictions are recognized."""

import pytest

from zsar_jax.mask_making import licenses


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
    ('---\na: &a [x, x]\nlicense: [mit, *a]\n---\n', 'mit'),
    ('', 'Apache-2.0'),
    (None, 'not known, as the folder has no model card; published weights: Apache-2.0'),
  ],
)
def test_the_card_takes_precedence_over_the_family(card, expected):
  assert licenses.model_licenses('rf_detr', card) == {'code': 'Apache-2.0', 'weights': expected}


def test_unknown_models_have_no_license():
  unknown = licenses.model_licenses('detr', '')
  assert unknown == {'code': licenses.UNKNOWN, 'weights': licenses.UNKNOWN}


@pytest.mark.parametrize(
  ('license', 'restriction'),
  [
    ('Apache-2.0', None),
    ('mit', None),
    ('lgpl-3.0', None),
    (licenses.UNKNOWN, None),
    ('agpl-3.0', 'also as a service'),
    ('GPL-3.0', 'must be published under the same license'),
    ('cc-by-nc-4.0', 'commercial use is excluded'),
    ('CC-BY-NC-SA-4.0', 'commercial use is excluded'),
    ('sam-license', 'publications must acknowledge it'),
    ('DINOv3 License', 'terms of its own'),
    ('other', 'terms of its own'),
    (licenses.model_licenses('oneformer', '')['weights'], 'read which of them applies'),
  ],
)
def test_restrictions(license, restriction):
  sentences = licenses.restrictions({'code': 'Apache-2.0', 'weights': license})
  if restriction is None:
    assert sentences == []
  else:
    (sentence,) = sentences
    assert sentence.startswith(f'license of the weights: {license}; ')
    assert restriction in sentence
