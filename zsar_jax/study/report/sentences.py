"""Writes sentences about the results of a study from its numbers.

A sentence is a list of texts. Texts that come from the study (a class, a run, a recipe) are of type
`Foreign` or `Name`, because HTML and Markdown escape and emphasize them differently.
"""

import dataclasses
from typing import Any

from zsar_jax.study import statistics
from zsar_jax.study.report import number_format, study_file
from zsar_jax.study.report.study_file import Estimate

# The sign and the CSS class of each verdict on a finding.
BADGES = {
  statistics.HOLDS: ('\u2713', 'yes'),
  statistics.HOLDS_ON_AVERAGE: ('\u2248', 'partly'),
  statistics.DOES_NOT_HOLD: ('\u2717', 'no'),
}

# Why a clip does not count under a recipe, by the reason in study.json.
_NOT_COUNTED = {
  'no masks': 'Not counted: this clip has no masks of what the recipe paints.',
  'no partner': 'Not counted: this clip has no partner to take a background from.',
}
NO_ANSWER = 'no answer: the logits are not finite, which counts as wrong'


class Foreign(str):
  """A text inside a sentence that comes from the study, such as a description of a run."""

  __slots__ = ()


class Name(Foreign):
  """A name inside a sentence that comes from the study; it is emphasized."""

  __slots__ = ()


Sentence = list[str]


def study_size(study: dict[str, Any]) -> str:
  """Returns two sentences about the size of the study."""
  counted = number_format.counted
  experiments = study['experiments'].values()
  runs = [run for experiment in experiments for run in experiment['runs'].values()]
  trainings = sum(max(1, len(run['folders'])) for run in runs if run['recipe'] is not None)
  evaluated = sum(run['recipe'] is None for run in runs)
  parts = []
  if trainings:
    parts.append(f'{counted(trainings, "training")} with {counted(len(study["seeds"]), "seed")}')
  if evaluated:
    parts.append(f'{counted(evaluated, "model")} only evaluated')
  clips: dict[str, int] = {}
  for _, _, name, dataset in study_file.datasets(study):
    clips[name] = max(dataset['count'], clips.get(name, 0))
  recipes = {recipe for experiment in experiments for recipe in experiment['recipes']}
  return (
    f'{counted(len(experiments), "experiment")}, {counted(len(runs), "run")}: {", ".join(parts)}.'
    f' Evaluated on {counted(len(clips), "data set")} ({counted(sum(clips.values()), "clip")})'
    f' under {counted(len(recipes), "validation recipe")}.'
  )


def compared_sides(study: dict[str, Any], finding: dict[str, Any]) -> Sentence:
  """Returns sentences about the two accuracies of a finding and the clips that count for both."""
  better, worse = finding['better'], finding['worse']
  count = finding['estimate']['count']
  experiment, _, dataset, _ = better['place']
  total = study['experiments'][experiment]['datasets'][dataset]['count']
  sentence = ['The run ', *_side(better), '; the run ', *_side(worse), '.']
  if count < total:
    clips = f'{count} of {number_format.counted(total, "clip")}'
    return [
      *sentence,
      f' Both accuracies are over the {clips} that count on both sides; the others have no masks'
      ' or no partner.',
    ]
  return [*sentence, f' Both accuracies are over {number_format.counted(count, "clip")}.']


def _side(side: dict[str, Any]) -> Sentence:
  """Returns the run, accuracy, data set and recipe of one side of a finding, in words."""
  experiment, run, dataset, recipe = side['place']
  return [
    Name(run), ' of experiment ', Name(experiment),
    f': {number_format.percent(side["value"])}\u00a0% on ', Name(dataset),
    ' under the recipe ', Name(recipe),
  ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
  """The answer to whether a model recognizes the action or the background.

  Attributes:
    kind: what the baseline follows: 'action', 'background' or 'unclear'.
    verdict: the headline.
    evidence: the sentences that support the headline.
  """

  kind: str
  verdict: Sentence
  evidence: list[Sentence]


def answer(experiment: dict[str, Any], dataset_name: str, dataset: dict[str, Any]) -> Answer | None:
  """Returns the answer for a data set; None if the baseline has no accuracy."""
  recipe, baseline = study_file.main_recipe(experiment), experiment['baseline']
  if recipe is None or study_file.accuracy(dataset, baseline, recipe)['value'] is None:
    return None
  best = study_file.best_run(experiment, dataset)
  gain = study_file.NO_ESTIMATE if best is None else study_file.difference(dataset, best, recipe)
  best_gains = best is not None and number_format.interval_excludes_zero(gain) and gain['value'] > 0
  baseline_preference, baseline_evidence = _preference(baseline, dataset['bias'].get(baseline, {}))
  best_preference: str | None = None
  best_evidence: Sentence = []
  if best is not None and best_gains:
    best_preference, best_evidence = _preference(best, dataset['bias'].get(best, {}))
  evidence = [_accuracy_sentence(experiment, dataset_name, dataset, recipe, best)]
  evidence += [sentence for sentence in (baseline_evidence, best_evidence) if sentence]
  num_others = len(experiment['runs']) - 1
  if best_gains and num_others > 1:
    evidence.append([
      f'Of {num_others} other runs, ', Name(best),
      ' is shown because it has the highest accuracy here, so that its gain is slightly'
      ' overestimated.',
    ])  # fmt: skip
  headline = _headline(baseline_preference, best_preference, baseline, best, gain)
  return Answer(baseline_preference or 'unclear', headline, evidence)


def _accuracy_sentence(
  experiment: dict[str, Any],
  dataset_name: str,
  dataset: dict[str, Any],
  recipe: str,
  best: str | None,
) -> Sentence:
  """Returns sentences about the accuracy of the baseline and that of the best other run."""
  baseline = experiment['baseline']
  accuracy = study_file.accuracy(dataset, baseline, recipe)
  remarks = [number_format.clip_count([accuracy])] if accuracy['count'] is not None else []
  if accuracy.get('chance') is not None:
    remarks.append(f'chance {number_format.percent(accuracy["chance"])}\u00a0%')
  if best is None and (interval := number_format.interval(accuracy)):
    remarks.insert(0, f'95\u00a0% interval {interval}')
  sentence = [
    'The baseline run ',
    Name(baseline),
    f' classifies {number_format.percent(accuracy["value"])}\u00a0% of ',
    Name(dataset_name),
    ' correctly',
  ]
  if recipe != 'none':
    sentence += [' under the recipe ', Name(recipe)]
  sentence.append(f' ({", ".join(remarks)}).' if remarks else '.')
  if best is None:
    return sentence
  sentence += [' The best other run, ', Name(best)]
  if (about := experiment['runs'][best]['about']) and about != best:
    sentence += [' (', Foreign(about), ')']
  best_accuracy = study_file.accuracy(dataset, best, recipe)['value']
  sentence.append(f', reaches {number_format.percent(best_accuracy)}\u00a0%')
  gain = study_file.difference(dataset, best, recipe)
  if gain['value'] is None:
    return [*sentence, '.']
  if not number_format.interval_excludes_zero(gain):
    return [*sentence, f': a difference of {_points(gain)}, which may be due to chance.']
  return [*sentence, f': a {"gain" if gain["value"] > 0 else "loss"} of {_points(gain)}.']


def _points(gain: Estimate) -> str:
  """Formats a gain, such as '+2.0 points (95 % interval -3.0 to +7.0, 160 clips)'."""
  remarks = []
  if interval := number_format.interval(gain, number_format.points):
    remarks.append(f'95\u00a0% interval {interval}')
  if gain['count'] is not None:
    remarks.append(number_format.clip_count([gain]))
  points = f'{number_format.points(gain["value"])} points'
  return f'{points} ({", ".join(remarks)})' if remarks else points


def _preference(run: str, bias: dict[str, Estimate]) -> tuple[str | None, Sentence]:
  """Returns what a run follows, as in `Answer.kind`, and a sentence with the evidence.

  The evidence is the predictions with swapped backgrounds or, if they were not evaluated, the
  accuracies without the background and without people; (None, []) without either. The run follows
  the action or the background only if the interval of their difference excludes 0. Both are
  measured on the same clips.
  """
  swapped = (
    ' names the action in {}\u00a0% of the clips and the class of the background in {}\u00a0%'
  )
  painted = ' keeps {}\u00a0% of its accuracy without the background and {}\u00a0% without people'
  for action, background, condition, text in (
    ('SHAcc', 'SBErr', 'In front of the background of another clip, ', swapped),
    ('HOR', 'BOR', 'With parts of the clips painted over, ', painted),
  ):
    gap, *sides = (
      bias.get(name) or study_file.NO_ESTIMATE
      for name in (f'{action}-{background}', action, background)
    )
    if any(estimate['value'] is None for estimate in (gap, *sides)):
      continue
    shares = text.format(*(number_format.percent(side['value']) for side in sides))
    sentence = [condition, 'the run ', Name(run), f'{shares}: a difference of {_points(gap)}']
    if not number_format.interval_excludes_zero(gap):
      return 'unclear', [*sentence, ', which may be due to chance.']
    return 'action' if gap['value'] > 0 else 'background', [*sentence, '.']
  return None, []


# For each `Answer.kind`: the verb of one run, the verb of two runs, and their object.
_PREFERENCE_WORDS = {
  'action': ('follows', 'follow', ' the action more than the background'),
  'background': ('follows', 'follow', ' the background more than the action'),
  'unclear': ('shows', 'show', ' no clear preference for action or background'),
}


def _headline(
  baseline_preference: str | None,
  best_preference: str | None,
  baseline: str,
  best: str | None,
  gain: Estimate,
) -> Sentence:
  """Returns what the baseline and the best run follow; if unknown, which is more accurate."""
  if baseline_preference:
    singular, plural, target = _PREFERENCE_WORDS[baseline_preference]
    if best_preference == baseline_preference:
      return ['The runs ', Name(baseline), ' and ', Name(best), f' both {plural}{target}']
    sentence = ['The run ', Name(baseline), f' {singular}{target}']
    if best_preference:
      verb, _, best_target = _PREFERENCE_WORDS[best_preference]
      sentence += ['; the run ', Name(best), f' {verb}{best_target}']
    return sentence
  if best is None or gain['value'] is None:
    return ['There is no other run to compare with']
  if not number_format.interval_excludes_zero(gain):
    return ['There is no clear difference between the runs']
  if gain['value'] > 0:
    return ['The run ', Name(best), ' classifies more clips correctly than ', Name(baseline)]
  return ['No other run classifies more clips correctly than ', Name(baseline)]


def not_counted(clip: dict[str, Any], recipe: str) -> str | None:
  """Returns why a clip of the gallery does not count under a recipe; None if it counts."""
  reason = clip['not_counted'].get(recipe)
  return None if reason is None else _NOT_COUNTED[reason]


def unpainted_frames(clip: dict[str, Any], recipe: str) -> str | None:
  """Returns a sentence about the frames that a recipe leaves unpainted; None if it paints all."""
  count = clip['unpainted'].get(recipe)
  if not count:
    return None
  return (
    f'{count} of the {clip["frames"]} frames that the model sees have no masks and stay unpainted.'
  )
