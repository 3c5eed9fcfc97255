"""Sentences of the report. Every word about a result is derived from its numbers.

A sentence is a list of texts in which what is the study's (a class, a run, a recipe) is marked as
`Foreign` or `Name`, because a page and a Markdown file escape and emphasize it differently.
"""

import dataclasses
from typing import Any

from zsar_jax.study.report import results as studies
from zsar_jax.study.report import words

# Why a clip does not count under a recipe, by what study.json says.
NOT_COUNTED = {
  'no masks': 'Not counted: this clip has no masks of what the recipe paints.',
  'no partner': 'Not counted: this clip has no partner to take a background from.',
}
NO_ANSWER = 'no answer: the logits are not finite, which counts as wrong'


class Foreign(str):
  """A text of the study's inside a sentence."""

  __slots__ = ()


class Name(Foreign):
  """A name of the study's inside a sentence, which is set apart."""

  __slots__ = ()


Sentence = list[str]


def what_was_done(study: dict[str, Any]) -> str:
  """The size of the study in two sentences."""
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
    f'{words.counted(len(study["experiments"]), "experiment")},'
    f' {words.counted(runs, "run")}, {words.counted(len(study["seeds"]), "seed")}:'
    f' {words.counted(trainings, "training")}. Evaluated on {words.counted(len(clips), "data set")}'
    f' ({words.counted(sum(clips.values()), "clip")}) under'
    f' {words.counted(len(recipes), "validation recipe")}.'
  )


def sides(study: dict[str, Any], finding: dict[str, Any]) -> Sentence:
  """What a finding compares: two accuracies, and how many clips count on both sides."""
  better, worse = finding['better'], finding['worse']
  if not better or not worse:
    return []
  sentence = ['The run ', *_side(better), '; the run ', *_side(worse), '.']
  count = finding['estimate']['count']
  if count is None:
    return sentence
  experiment, _, dataset, _ = better['place']
  all_clips = study['experiments'].get(experiment, {'datasets': {}})['datasets'].get(dataset)
  if all_clips and count < all_clips['count']:
    of_all = f'{count} of {words.counted(all_clips["count"], "clip")}'
    return [
      *sentence,
      f' Both are over the {of_all} that count on both sides; the others have no masks or no'
      ' partner.',
    ]
  return [*sentence, f' Both are over {words.counted(count, "clip")}.']


def _side(side: dict[str, Any]) -> Sentence:
  experiment, run, dataset, recipe = side['place']
  return [
    Name(run), ' of experiment ', Name(experiment),
    f': {words.percent(side["value"])}\u00a0% on ', Name(dataset),
    ' under the recipe ', Name(recipe),
  ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
  """Whether a model sees the action.

  Attributes:
    kind: 'action', 'background' or 'unclear', of the baseline.
    verdict: a headline.
    sentences: what it rests on.
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
  helped = best is not None and words.certain(gain) and gain['value'] > 0
  kind, rests_on = _evidence(baseline, dataset['bias'].get(baseline, {}))
  better, better_rests_on = None, []
  if helped:
    better, better_rests_on = _evidence(best, dataset['bias'].get(best, {}))
  sentences = [_accuracy_sentence(experiment, dataset_name, dataset, recipe, best)]
  sentences += [sentence for sentence in (rests_on, better_rests_on) if sentence]
  others = len(experiment['runs']) - 1
  if helped and others > 1:
    sentences.append([
      'Of ', str(others), ' other runs, ', Name(best),
      ' is shown because it has the highest accuracy here; this makes its gain look a little too'
      ' large.',
    ])  # fmt: skip
  return Answer(kind or 'unclear', _headline(kind, better, baseline, best, gain), sentences)


def _accuracy_sentence(
  experiment: dict[str, Any],
  dataset_name: str,
  dataset: dict[str, Any],
  recipe: str,
  best: str | None,
) -> Sentence:
  """What the baseline names right, and how the best other run compares with it."""
  baseline = experiment['baseline']
  base = studies.matrix_cell(dataset, baseline, recipe, 'top1')
  remarks = [words.clips_of([base])] if base['count'] is not None else []
  if base['chance'] is not None:
    remarks.append(f'chance {words.percent(base["chance"])}\u00a0%')
  if best is None and (between := words.interval(base)):
    remarks.insert(0, f'95\u00a0% interval {between}')
  sentence = [
    'The baseline run ',
    Name(baseline),
    f' names {words.percent(base["value"])}\u00a0% of ',
  ]
  sentence += [Name(dataset_name), ' right']
  if recipe != 'none':
    sentence += [' under the recipe ', Name(recipe)]
  sentence.append(f' ({", ".join(remarks)}).' if remarks else '.')
  if best is None:
    return sentence
  sentence += [' The best other run, ', Name(best)]
  if (about := experiment['runs'][best]['about']) and about != best:
    sentence += [' (', Foreign(about), ')']
  top = studies.matrix_cell(dataset, best, recipe, 'top1')['value']
  sentence.append(f', names {words.percent(top)}\u00a0%')
  gain = studies.difference_cell(dataset, best, recipe)
  if gain['value'] is None:
    return [*sentence, '.']
  kind = 'a gain' if gain['value'] > 0 else 'a loss'
  if not words.certain(gain):
    return [*sentence, f': {_difference(gain)}, which may be chance.']
  return [*sentence, f': {kind} of {_difference(gain, article=False)}.']


def _difference(gain: studies.Estimate, article: bool = True) -> str:
  """'a difference of +2.0 points (95 % interval -3.0 to +7.0, 160 clips)'."""
  remarks = []
  if between := words.interval(gain, words.points):
    remarks.append(f'95\u00a0% interval {between}')
  if gain['count'] is not None:
    remarks.append(words.clips_of([gain]))
  size = f'{words.points(gain["value"])} points' + (f' ({", ".join(remarks)})' if remarks else '')
  return f'a difference of {size}' if article else size


def _evidence(run: str, bias: dict[str, studies.Estimate]) -> tuple[str | None, Sentence]:
  """What a run follows, as in `Answer.kind`, and the sentence for it.

  By the answers in front of swapped backgrounds, else by what is left without the background and
  without the people; (None, []) where neither was evaluated. Action and background are compared by
  the interval of their difference, which is of the same clips.
  """
  swapped = (
    ' names the action in {}\u00a0% of the clips and the class of the background in {}\u00a0%'
  )
  painted = ' keeps {}\u00a0% of its accuracy without the background and {}\u00a0% without people'
  for action, background, where, text in (
    ('SHAcc', 'SBErr', 'In front of the background of another clip, ', swapped),
    ('HOR', 'BOR', 'With parts of the clips painted over, ', painted),
  ):
    gap = bias.get(f'{action}-{background}')
    sides = [bias.get(name) for name in (action, background)]
    if gap is None or None in sides or None in [estimate['value'] for estimate in (gap, *sides)]:
      continue
    sentence = [
      where,
      'the run ',
      Name(run),
      text.format(*(words.percent(side['value']) for side in sides)),
    ]
    if not words.certain(gap):
      return 'unclear', [*sentence, f': {_difference(gap)}, which may be chance.']
    kind = 'action' if gap['value'] > 0 else 'background'
    return kind, [*sentence, f': {_difference(gap)}.']
  return None, []


_FOLLOWS = {
  'action': ('follows', 'follow', ' the action more than the background'),
  'background': ('follows', 'follow', ' the background more than the action'),
  'unclear': ('shows', 'show', ' no clear preference for action or background'),
}


def _headline(
  kind: str | None, better: str | None, baseline: str, best: str | None, gain: studies.Estimate
) -> Sentence:
  """A headline: what the baseline and the run that gains on it follow, where this is known."""
  if kind:
    singular, plural, what = _FOLLOWS[kind]
    if better == kind:
      return ['The runs ', Name(baseline), ' and ', Name(best), f' both {plural}{what}']
    sentence = ['The run ', Name(baseline), f' {singular}{what}']
    if better:
      verb, _, of_better = _FOLLOWS[better]
      sentence += ['; the run ', Name(best), f' {verb}{of_better}']
    return sentence
  if best is None or gain['value'] is None:
    return ['There is no other run to compare with']
  if not words.certain(gain):
    return ['There is no clear difference between the runs']
  if gain['value'] > 0:
    return ['The run ', Name(best), ' names more clips right than ', Name(baseline)]
  return ['No other run names more clips right than ', Name(baseline)]


def not_shown(clip: dict[str, Any], recipe: str) -> str | None:
  """Why a clip of the gallery has no picture and no answers under a recipe; None if it has."""
  reason = clip['not_counted'].get(recipe)
  return None if reason is None else NOT_COUNTED.get(reason, f'Not counted: {reason}.')


def unpainted(clip: dict[str, Any], recipe: str) -> str | None:
  """That a recipe leaves some frames of a clip as they are; None if it paints all."""
  number = clip['unpainted'].get(recipe)
  if not number or clip['frames'] is None:
    return None
  return (
    f'{number} of the {clip["frames"]} frames that the model sees have no masks and stay unpainted.'
  )
