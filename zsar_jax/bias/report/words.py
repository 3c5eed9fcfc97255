"""Numbers and sentences of the report. Every word about a result is derived from its numbers.

A sentence is a list of texts in which what is the study's (a class, a run, a recipe) is marked as
`Foreign` or `Name`, because a page and a Markdown file escape and emphasise it differently.
"""

import dataclasses
import datetime
from typing import Any

from zsar_jax.bias.report import markup
from zsar_jax.bias.report import study as studies

# What stands for a number that cannot be formed, and the sentence that says so.
MISSING = '\u2013'
WHY_MISSING = 'cannot be formed: nothing to divide by, or not evaluated'

ACCURACIES = {'top1': 'top-1', 'top5': 'top-5', 'mean_class': 'mean class'}


class Foreign(str):
  """A text of the study's inside a sentence."""

  __slots__ = ()


class Name(Foreign):
  """A name of the study's inside a sentence, which is set apart."""

  __slots__ = ()


Sentence = list[str]


@dataclasses.dataclass(frozen=True)
class Metric:
  """How a bias metric is shown.

  Attributes:
    title: its name.
    better: 'lower' or 'higher', which is the better direction.
    meaning: what it counts.
  """

  title: str
  better: str
  meaning: str


RATES = {
  'BOR': Metric(
    'BOR, background only',
    'lower',
    'accuracy without the people, as a share of that on whole clips',
  ),
  'HOR': Metric(
    'HOR, human only',
    'higher',
    'accuracy without the background, as a share of that on whole clips',
  ),
  'SHAcc': Metric(
    'SHAcc, swapped background', 'higher', "the action is named over another clip's background"
  ),
  'SBErr': Metric(
    'SBErr, swapped background', 'lower', 'the class of the background is named instead'
  ),
  'background_wins': Metric(
    'Background wins', 'lower', "the background's class is ranked before the action's"
  ),
  'SCUBA': Metric('SCUBA', 'higher', 'the action is named over stripes'),
  'SCUFO': Metric(
    'SCUFO', 'lower', 'the action is named from one frame of that, without any movement'
  ),
  'contrasted': Metric('Contrasted', 'higher', 'named over stripes, but not from the one frame'),
  'recolour': Metric(
    'Recolour consistency', 'higher', 'the same answer for two colours of the background'
  ),
}
GAPS = {
  'rank_gap': Metric(
    'Rank gap', 'lower', "rank of the action minus rank of the background's class, in ranks"
  ),
  'score_gap': Metric(
    'Score gap', 'higher', "score of the action minus that of the background's class, in logits"
  ),
}


def percent(value: float | None) -> str:
  """A fraction in percent, without the sign: '83.3'."""
  return MISSING if value is None else _unsigned_zero(f'{100 * value:.1f}').replace('-', '\u2212')


def points(value: float | None) -> str:
  """A difference of fractions in points, with its sign: '+32.5'."""
  if value is None:
    return MISSING
  text = _unsigned_zero(f'{100 * value:+.1f}')
  return text.replace('-', '\u2212')


def short_points(value: float) -> str:
  """A difference in points as short as it can be, for an axis: '+30'."""
  return _unsigned_zero(f'{100 * value:+.3g}').replace('-', '\u2212')


def whole_percent(value: float) -> str:
  """A fraction in whole percent, for an axis."""
  return f'{100 * value:.0f}'


def compact(value: float) -> str:
  """A number as short as it can be, for an axis: '12000', '0.5'."""
  return f'{value:.7g}'


def plain(value: float | None) -> str:
  """A number that is no fraction."""
  return MISSING if value is None else _unsigned_zero(f'{value:.2f}').replace('-', '\u2212')


def _unsigned_zero(text: str) -> str:
  return text.lstrip('+-') if float(text) == 0 else text


def interval(estimate: studies.Estimate, write=percent) -> str:
  """'25.0 to 40.0', or nothing where there is none."""
  if estimate['low'] is None or estimate['high'] is None:
    return ''
  return f'{write(estimate["low"])}\u00a0to\u00a0{write(estimate["high"])}'


def told(estimate: studies.Estimate, write=percent, unit: str = '\u00a0%') -> str:
  """An estimate in full, for a tooltip: value, interval, each seed's, count of clips."""
  if estimate['value'] is None:
    return WHY_MISSING
  parts = []
  if between := interval(estimate, write):
    parts.append(f'95\u00a0% interval {between}')
  if len(estimate['per_seed']) > 1:
    parts.append('seeds ' + ', '.join(map(write, estimate['per_seed'])))
  if estimate['count'] is not None:
    parts.append(f'{estimate["count"]} clips')
  if estimate['p'] is not None:
    parts.append(f'p = {estimate["p"]:.2g} of being no better')
  return f'{write(estimate["value"])}{unit}' + (f' ({"; ".join(parts)})' if parts else '')


def certain(estimate: studies.Estimate) -> bool:
  """Whether there is an estimate, and its interval leaves 0 out."""
  low, high = estimate['low'], estimate['high']
  return None not in (estimate['value'], low, high) and (low > 0 or high < 0)


def isolated(text: str) -> str:
  """A foreign text for a tooltip, kept from turning the direction of what is around it."""
  return f'\u2068{markup.undirected(text)}\u2069'


def shortened(text: str, length: int) -> str:
  """The text, or its beginning and an ellipsis."""
  return text if len(text) <= length else f'{text[: length - 1]}\u2026'


def counted(number: int, one: str, many: str | None = None) -> str:
  """'1 run', '2 runs'."""
  return f'{number:,} {one if number == 1 else many or one + "s"}'.replace(',', '\u202f')


def moment(text: str) -> str:
  """An ISO time to the minute; any other text as it is."""
  try:
    return datetime.datetime.fromisoformat(text).strftime('%Y-%m-%d %H:%M %Z').strip()
  except ValueError:
    return text


def what_was_done(study: dict[str, Any]) -> str:
  """One sentence on the size of the study."""
  experiments = study['experiments'].values()
  runs = sum(len(experiment['runs']) for experiment in experiments)
  trainings = sum(
    max(1, len(run['folders'])) for experiment in experiments for run in experiment['runs'].values()
  )
  clips = {}
  for _, _, name, dataset in studies.datasets(study):
    clips[name] = max(dataset['count'], clips.get(name, 0))
  recipes = {recipe for experiment in experiments for recipe in experiment['recipes']}
  return (
    f'{counted(len(study["experiments"]), "experiment")} with {counted(runs, "way", "ways")} of'
    f' training, {counted(trainings, "training")} in all'
    f' ({counted(len(study["seeds"]), "seed")}),'
    f' evaluated on {counted(len(clips), "data set")} with {counted(sum(clips.values()), "clip")}'
    f'{" together" if len(clips) > 1 else ""}, under {counted(len(recipes), "validation recipe")}.'
  )


def sides(finding: dict[str, Any]) -> Sentence:
  """What a finding compares, if the study tells: two top-1 and what they are of."""
  better, worse = finding['better'], finding['worse']
  if not better or not worse:
    return []
  told = [_side(better), _side(worse)]
  return [*told[0], ', against ', *told[1], '.']


def _side(side: dict[str, Any]) -> Sentence:
  experiment, run, dataset, recipe = side['place']
  return [
    f'{percent(side["value"])}\u00a0% of ', Name(dataset), ' under ', Name(recipe), ' by ',
    Name(run),
    ' (', Foreign(experiment), ')',
  ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
  """Whether a model sees the action.

  Attributes:
    kind: 'action', 'background' or 'unclear', of the baseline.
    verdict: a few words.
    sentences: what they rest on.
  """

  kind: str
  verdict: Sentence
  sentences: list[Sentence]


def answer(experiment: dict[str, Any], dataset_name: str, dataset: dict[str, Any]) -> Answer | None:
  """The answer for a data set, from the baseline and the best run; None without accuracies."""
  recipe, baseline = studies.recipe_shown(experiment), experiment['baseline']
  if studies.matrix_cell(dataset, baseline, recipe, 'top1')['value'] is None:
    return None
  best = studies.best_run(experiment, dataset)
  gain = studies.difference_cell(dataset, best, recipe)
  helped = best is not None and certain(gain) and gain['value'] > 0
  kind, rests_on = _evidence(dataset['bias'].get(baseline, {}))
  better, better_rests_on = _evidence(dataset['bias'].get(best, {})) if helped else (None, '')
  sentences = [_accuracy_sentence(experiment, dataset_name, dataset, recipe, best)]
  for run, text in ((baseline, rests_on), (best, better_rests_on)):
    if text:
      sentences.append([Name(run), ': ', text, '.'])
  others = len(experiment['runs']) - 1
  if helped and others > 1:
    sentences.append([
      'Of ', str(others), ' runs ', Name(best),
      ' was chosen by this very number, which flatters it a little.',
    ])  # fmt: skip
  return Answer(kind or 'unclear', _verdict(kind, better, best, gain), sentences)


def _accuracy_sentence(
  experiment: dict[str, Any],
  dataset_name: str,
  dataset: dict[str, Any],
  recipe: str,
  best: str | None,
) -> Sentence:
  """What the baseline names right, and what the best run makes of it."""
  baseline = experiment['baseline']
  base = studies.matrix_cell(dataset, baseline, recipe, 'top1')
  if experiment['runs'][baseline]['recipe'] == 'none':
    sentence = ['Trained as it is, the model']
  else:
    sentence = ['The baseline ', Name(baseline)]
  sentence += [f' names {percent(base["value"])}\u00a0% of ', Name(dataset_name), ' right']
  if recipe != 'none':
    sentence += [' under ', Name(recipe)]
  if best is None:
    between = interval(base)
    return [*sentence, f' (95\u00a0% interval {between}).' if between else '.']
  named = [Name(best)]
  if (about := experiment['runs'][best]['about']) and about != best:
    named += [' (', Foreign(about), ')']
  top = f'{percent(studies.matrix_cell(dataset, best, recipe, "top1")["value"])}\u00a0%'
  gain = studies.difference_cell(dataset, best, recipe)
  if gain['value'] is None:
    return [*sentence, '; ', *named, f' names {top}.']
  size = f'{points(gain["value"])} points'
  if between := interval(gain, points):
    size += f', 95\u00a0% interval {between}'
  if not certain(gain):
    end = f', names {top} ({size}), which may be chance.'
    return [*sentence, '; the best other run, ', *named, end]
  if gain['value'] < 0:
    return [*sentence, '; the best other run, ', *named, f', only {top} ({size}).']
  return [*sentence, '; ', *named, f' makes it {top} ({size}).']


def _evidence(bias: dict[str, studies.Estimate]) -> tuple[str | None, str]:
  """What a run goes by, as in `Answer.kind`, and the sentence for it.

  By the answers over swapped backgrounds, else by what is left without the background and without
  the people; (None, '') where neither was evaluated.
  """
  swapped = (
    "over another clip's background it names the action in {}\u00a0% of the clips and the"
    " background's class in {}\u00a0%"
  )
  painted = (
    'without the background it keeps {}\u00a0% of its accuracy, without the people {}\u00a0%'
  )
  for action, background, text in (('SHAcc', 'SBErr', swapped), ('HOR', 'BOR', painted)):
    seen, other = bias.get(action), bias.get(background)
    if not seen or not other or seen['value'] is None or other['value'] is None:
      continue
    text = text.format(percent(seen['value']), percent(other['value']))
    if None not in (seen['low'], other['high']) and seen['low'] > other['high']:
      return 'action', text
    if None not in (other['low'], seen['high']) and other['low'] > seen['high']:
      return 'background', text
    return 'unclear', f'{text}, too close to tell them apart'
  return None, ''


_GOES_BY = {
  'action': 'goes more by the action than by the background',
  'background': 'goes more by the background than by the action',
  'unclear': 'cannot be told to go more by either, the action or the background',
}


def _verdict(
  kind: str | None, better: str | None, best: str | None, gain: studies.Estimate
) -> Sentence:
  """A few words, from what the baseline and the run that gains on it go by, if known."""
  if kind and better and better != kind:
    return [f'It {_GOES_BY[kind]}; ', Name(best), f' {_GOES_BY[better]}']
  if kind and better:
    return [f'It {_GOES_BY[kind]}, and so does ', Name(best)]
  if kind:
    return [f'It {_GOES_BY[kind]}']
  if best is None or gain['value'] is None:
    return ['There is no run to compare with']
  if not certain(gain):
    return ['No clear difference between the runs']
  if gain['value'] > 0:
    return ['It sees more of the action as ', Name(best)]
  return ['No run is better than the baseline']
