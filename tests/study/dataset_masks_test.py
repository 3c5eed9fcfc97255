"""Tests of zsar_jax.study.dataset_masks."""

import json
import types

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref
from zsar_jax.study.dataset_masks import describe_masks

MADE = {
  'format': 'made',
  'path': 'masks',
  'made': {'maker': 'motion', 'weak': True, 'licenses': {'code': 'AGPL-3.0'}},
}


def _write(root, name, report):
  folder = root / name / '1.0.0'
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text('{}')
  (folder / 'build_report.json').write_text(report)


def test_the_masks_of_all_data_sets(tmp_path):
  people = {'regions': {'person': {}}}
  reports = {
    'made': {'train': people | {'masks': [MADE, {'format': 'coco', 'path': 'a.json'}]}},
    'drawn': {'train': people | {'masks': []}},
    'unmasked': {'train': {'regions': {}, 'masks': []}},
    'earlier': {'train': people},
    'empty': {},
  }
  for name, report in reports.items():
    _write(tmp_path, name, json.dumps(report))
  _write(tmp_path, 'damaged', '[')
  jobs = [
    types.SimpleNamespace(
      config=ConfigDict(
        {
          'data': {'dir': str(tmp_path), 'train': dataset_ref('made', 'test1')},  # A part of train.
          'eval': {'datasets': {name: dataset_ref(name, 'train')}},
        }
      )
    )
    for name in (*reports, 'damaged', 'gone')
  ]
  masks = describe_masks(jobs)
  unreadable = 'not known, as the report of its build cannot be read'
  texts = {name: [source['text'] for source in sources] for name, sources in masks.items()}
  made = ['made:masks: maker motion; licenses: code AGPL-3.0', 'coco:a.json']
  assert texts == {
    'made, test1': made,
    'made, train': made,
    'drawn, train': ['drawn with the clips'],
    'unmasked, train': ['no masks'],
    'earlier, train': ['not known, as an earlier version built the data set'],
    'empty, train': [unreadable],
    'damaged, train': [unreadable],
    'gone, train': ['not known, as the data set is no longer there'],
  }
  assert [len(source['warnings']) for source in masks['made, train']] == [2, 0]
