"""Tests the description of where masks come from, also of texts that try to mislead a reader."""

import json

import pytest

from zsar_jax.datasets import mask_provenance

SETTINGS = {
  'regions': ['person'],
  'maker': 'person',
  'about': 'all people, by RF-DETR',
  'model': '/home/somebody/models/rf-detr seg-small',
  'revision': 'abc123',
  'threshold': 0.3,
  'licenses': {'code': 'Apache-2.0', 'weights': 'CC-BY-NC-4.0'},
  'refinement': {'union': 1, 'dilate': 0.02},
  'boxes': None,
  'notes': {'torch': '2.14'},
}


def _summary(**changes):
  parameters = {'format': 'made', 'path': '/data/of somebody/masks', 'made': SETTINGS | changes}
  return json.loads(json.dumps(mask_provenance.summarize(parameters)))


def test_made_masks():
  assert mask_provenance.describe(_summary()) == (
    'made:masks: all people, by RF-DETR, maker person; licenses: code Apache-2.0, weights'
    ' CC-BY-NC-4.0; model=rf-detr seg-small, revision=abc123, threshold=0.3, refinement.union=1,'
    ' refinement.dilate=0.02'
  )
  # The model is named once.
  named = mask_provenance.describe(_summary(about='people by rf-detr seg-small'))
  assert named.startswith('made:masks: people by rf-detr seg-small, maker person; licenses: ')
  assert 'model=' not in named
  assert mask_provenance.warnings(_summary()) == [
    'the license of the weights may restrict the use: CC-BY-NC-4.0'
  ]
  weak = _summary(weak=True, licenses={})
  assert 'maker person; licenses: none stated; ' in mask_provenance.describe(weak)
  assert mask_provenance.warnings(weak) == ['weak masks: made without a model of people or objects']


@pytest.mark.parametrize(
  ('license', 'permissive'),
  [
    ('Apache-2.0', True),
    ('apache 2', True),
    ('MIT (not verified)', True),
    ('BSD-3-Clause', True),
    ('MIT or CC-BY-NC, by checkpoint; see the model card', False),
    ('Apache-2.0 and MIT', True),
    ('Apache-2.0 and SAM License', False),
    ('AGPL-3.0', False),
    ('GPL-3.0', False),
    ('SAM License', False),
    ('not known; see the model card', False),
    ('', False),
    (None, False),
  ],
)
def test_licenses_that_may_restrict_the_use(license, permissive):
  for licenses in ({'weights': license}, {'weights': {'detector': license}}):
    assert bool(mask_provenance.warnings(_summary(licenses=licenses))) is not permissive


def test_masks_of_others():
  parameters = {'format': 'coco', 'path': '/data/x/results.json', 'values': {'1': 1}}
  summary = mask_provenance.summarize(parameters)
  assert summary == {'format': 'coco', 'path': 'results.json'}
  assert mask_provenance.describe(summary) == 'coco:results.json'
  assert mask_provenance.warnings(summary) == []
  boxes = mask_provenance.summarize({'boxes': ['/data/a.json', '/data/b.json']})
  assert mask_provenance.describe(boxes) == 'boxes:a.json, b.json'


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('facebook/sam2.1-hiera-small', 'facebook/sam2.1-hiera-small'),
    ('https://example.com/a/b', 'https://example.com/a/b'),
    ('/usr/bin/python /me/segment.py {frames} --w=/w/x.pt', 'python segment.py {frames} --w=x.pt'),
    ('~/models/small', 'small'),
  ],
)
def test_folders_of_the_machine_are_removed(text, expected):
  assert _summary(command=text)['made']['command'] == expected


def test_foreign_texts_stay_on_one_line():
  summary = _summary(about='good\n  WARNING: none\r\n' + 'x' * 500, other={'a\nb': ['c\nd'] * 300})
  text = mask_provenance.describe(summary)
  assert not {'\n', '\r'} & set(text)
  assert len(text) <= 600
  hostile = _summary(licenses={'code\n': 'evil\nlicense'})
  assert mask_provenance.warnings(_summary(licenses=['odd'])) == []
  assert mask_provenance.warnings(hostile) == [
    'the license of the code may restrict the use: evil license'
  ]


def test_numbers_and_checksums_are_short():
  made = {'maker': 'm', 'revision': f'sha256:{"0123456789abcdef" * 4}', 'widening': 4 / 240}
  text = mask_provenance.describe({'format': 'made', 'path': 'masks', 'made': made})
  assert text.endswith('revision=sha256:0123456789ab, widening=0.01667')
