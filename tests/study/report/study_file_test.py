"""Tests that a study.json which the report cannot show is refused."""

import re

import pytest

from tests.study.report.random_study import SMALL, first_dataset, write_study
from zsar_jax.errors import UserError
from zsar_jax.study.report import write_report


def test_a_missing_study_is_refused(tmp_path):
  with pytest.raises(UserError, match='make the study first'):
    write_report(tmp_path)


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    ('{"title": ', 'is not JSON'),
    ('[' * 100_000, 'is not JSON'),
    ('[]', 'the file has no field title'),
    ('{"title": "x"}', 'the file has no field about'),
  ],
)
def test_other_files_are_refused(tmp_path, content, reason):
  (tmp_path / 'study.json').write_text(content)
  with pytest.raises(UserError, match=f'study.json: {reason}.*; make the study again'):
    write_report(tmp_path)


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    (lambda study: study.pop('command'), 'the file has no field command'),
    (lambda study: study['findings'][0].pop('better'), 'a finding has no field better'),
    (
      lambda study: study['findings'][0].update(verdict='maybe'),
      "a finding has the verdict 'maybe'",
    ),
    (lambda study: first_dataset(study).pop('bias'), 'a data set has no field bias'),
    (
      lambda study: first_dataset(study)['gallery'][0].pop('not_counted'),
      'a clip of the gallery has no field not_counted',
    ),
  ],
)
def test_a_study_of_another_version_is_refused(tmp_path, change, reason):
  write_study(tmp_path, change, **SMALL)
  message = f'study.json: {reason}, so it is from another version of zsar_jax; make the study again'
  with pytest.raises(UserError, match=re.escape(message)):
    write_report(tmp_path)
  assert not (tmp_path / 'report.html').exists()
