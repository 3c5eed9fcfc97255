"""Tests that the sentences of a report follow from its numbers."""

import re

import pytest

from tests.study.report.random_study import SMALL, first_dataset, make_study
from zsar_jax.study.report import sentences


def answer_for(folder, value, low, high, gap=None) -> sentences.Answer:
  """The answer if the second run gains `value`; `gap` is the interval of SHAcc minus SBErr."""
  study = make_study(folder, **SMALL)
  dataset = first_dataset(study)
  dataset['matrix']['none']['none']['top1'].update(value=0.508)
  dataset['matrix']['background=normal']['none']['top1'].update(value=0.508 + value)
  dataset['difference']['background=normal']['none'].update(value=value, low=low, high=high)
  for run, estimates in dataset['bias'].items():
    del estimates['HOR-BOR']
    if gap and run == 'none':
      estimates['SHAcc-SBErr'].update(value=sum(gap) / 2, low=gap[0], high=gap[1])
    else:
      del estimates['SHAcc-SBErr']
  return sentences.answer(study['experiments']['pantomime'], 'scenes', dataset)


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'comparison'),
  [
    (0.325, 0.25, 0.4, 'reaches 83.3 %: a gain of +32.5 points (95 % interval +25.0 to +40.0, 160'),
    (
      *(0.02, -0.03, 0.07),
      'reaches 52.8 %: a difference of +2.0 points (95 % interval −3.0 to +7.0, 160 clips), which'
      ' may be due to chance.',
    ),
    (-0.2, -0.3, -0.1, 'reaches 30.8 %: a loss of −20.0 points (95 % interval −30.0 to −10.0, 160'),
  ],
)
def test_accuracies_are_compared_by_their_interval(tmp_path, value, low, high, comparison):
  answer = answer_for(tmp_path, value, low, high)
  sentence = ''.join(answer.evidence[0]).replace('\u00a0', ' ')
  assert sentence.startswith(
    'The baseline run none classifies 50.8 % of scenes correctly (160 clips, chance 12.5 %). The'
    ' best other run, background=normal '
  )
  assert comparison in sentence


@pytest.mark.parametrize(
  ('gap', 'kind', 'headline'),
  [
    ((0.2, 0.4), 'action', 'The run none follows the action more than the background'),
    ((-0.4, -0.2), 'background', 'The run none follows the background more than the action'),
    ((-0.1, 0.3), 'unclear', 'The run none shows no clear preference for action or background'),
    (None, 'unclear', 'The run background=normal classifies more clips correctly than none'),
  ],
)
def test_a_run_follows_something_only_if_the_interval_says_so(tmp_path, gap, kind, headline):
  answer = answer_for(tmp_path, 0.1, 0.05, 0.15, gap)
  assert answer.kind == kind
  assert ''.join(answer.verdict) == headline


def test_findings_in_markdown_have_verdict_and_clips(random_report):
  rows = [line for line in random_report.markdown.splitlines() if re.match(r'\|.* holds? ', line)]
  assert [row.split(' | ')[1] for row in rows] == [
    '\u2713 holds', '\u2717 does not hold', '\u2248 holds on average'
  ]  # fmt: skip
  assert {row.split(' | ')[4] for row in rows} == {'160'}
  assert 'Chance is 12.5 %.' in random_report.markdown


def test_only_trainings_have_seeds(tmp_path):
  study = make_study(tmp_path, **SMALL)
  (experiment,) = study['experiments'].values()
  runs = list(experiment['runs'].values())
  assert re.search(r'\d trainings? with \d seeds?\.', sentences.study_size(study))
  runs[0]['recipe'] = None
  assert re.search(r'with \d seeds?, 1 model only evaluated\.', sentences.study_size(study))
  for run in runs:
    run['recipe'] = None
  assert f'{len(runs)} runs: {len(runs)} models only evaluated. ' in sentences.study_size(study)
