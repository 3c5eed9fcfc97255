"""The sections of the page that show results, and their content."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

from zsar_jax.study.report import (
  bar_charts,
  class_gains,
  clip_answers,
  gallery,
  gradient_shares,
  heat_maps,
  line_plots,
  pairs,
  rankings,
  recipe_metrics,
  study_file,
)


@dataclasses.dataclass(frozen=True)
class Block:
  """A part of a section, of one data set or of one experiment.

  Attributes:
    id: its anchor.
    stem: the beginning of the names of its files.
    heading: its heading.
    experiment: the experiment in study.json.
    content: the data that the section's template draws.
  """

  id: str
  stem: str
  heading: str
  experiment: dict[str, Any]
  content: Any


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the page.

  Attributes:
    key: its anchor, and the name of its template.
    title: its heading.
    note: a sentence that explains it; may be empty.
    blocks: its parts.
  """

  key: str
  title: str
  note: str
  blocks: list[Block]


_TITLES = {
  'ranking': 'Models, best first',
  'matrix': 'Accuracy of each run under each recipe',
  'bias': 'Bias metrics',
  'order': 'The order of frames',
  'recipe_metrics': 'Answers under each recipe',
  'pairs': 'Verbs and objects',
  'classes': 'Gain of each class',
  'strata': 'Kinds of clips',
  'coverage': 'Accuracy by the size of the people',
  'saliency': 'Where the gradient lies',
  'gallery': 'Clips as the model saw them',
  'clips': 'All clips',
  'curves': 'Training',
  'runs': 'Configs',
}

_NOTES = {
  'ranking': (
    'Models are tied if the 95\u00a0% interval of their paired difference from the best includes 0.'
    ' Each model has a bias card, a page of its own with its protocol and all its figures.'
  ),
  'matrix': (
    'A row is a run, a column is a validation recipe: what was painted over in the clips that the'
    ' run was evaluated on. Below each table are all its numbers with 95\u00a0% intervals.'
  ),
  'order': (
    'Each column is a recipe, and each group of rows shows the clips that it paints in another'
    ' order of frames. A model that averages its frames is at 0 for reversed and shuffled clips.'
  ),
  'pairs': (
    'Pairs are seen if they occur in training. The closed world has the pairs that occur in any'
    ' part of the data, the open world all pairs of a verb and an object. FSP: wrong unseen clips'
    ' that get a seen pair. FCP: those that get a frequent one; by the object: its object is right'
    ' and its verb is not, so the verb follows the object. Gap: accuracy of pairs minus the product'
    ' of those of verbs and objects.'
  ),
  'classes': (
    'Top-1 of unpainted clips minus that of the baseline run. Gray: the interval includes 0.'
  ),
  'strata': 'Top-1 of unpainted clips, by the attributes that the data set gives them.',
  'saliency': (
    'The input gradient shows which pixels change the answer most. For each region: its share of'
    ' the magnitude of the gradient, and its share of the pixels.'
  ),
  'gallery': (
    'Answers of the trainings with the first seed. \u2713 right, \u2717 wrong; open an answer for'
    ' the next likeliest classes.'
  ),
  'clips': (
    'The answers of the trainings with the first seed to every clip. \u2713 right, \u2717 wrong.'
    ' Select a clip for the answers of all runs under all recipes.'
  ),
}


def sections(
  study: dict[str, Any],
  folder: pathlib.Path,
  answers: dict[tuple[str, str], clip_answers.ClipAnswers | None],
  picture_bytes: int,
) -> list[Section]:
  """The sections of a study that have content.

  Args:
    study: the study, as `study_file.read` returns it.
    folder: the folder of the study, with its pictures.
    answers: {(experiment, data set): the answers to all clips}.
    picture_bytes: how many bytes of pictures the sections may contain.
  """
  datasets = [dataset for _, _, _, dataset in study_file.datasets(study)]
  list_count = max(1, sum(len(dataset['classes_gain']) for dataset in datasets))
  gallery_count = max(1, sum(bool(dataset['gallery']) for dataset in datasets))
  of_dataset: dict[str, Callable[..., Any]] = {
    'ranking': rankings.rankings,
    'matrix': heat_maps.heat_maps,
    'bias': bar_charts.bias,
    'order': recipe_metrics.order,
    'recipe_metrics': recipe_metrics.by_recipe,
    'pairs': pairs.pair_tables,
    'classes': functools.partial(class_gains.gain_lists, list_count=list_count),
    'strata': bar_charts.strata,
    'coverage': line_plots.coverage,
    'saliency': gradient_shares.saliency,
    'gallery': lambda experiment, dataset: gallery.gallery(
      experiment, dataset, gallery.Pictures(folder, picture_bytes // gallery_count, study['clips'])
    ),
  }
  of_experiment: dict[str, Callable[..., Any]] = {
    'curves': line_plots.curves,
    'runs': lambda experiment: experiment['runs'],
  }
  contents = {
    key: [
      (f'{name} \u00b7 {dataset_name}', experiment, content_of(experiment, dataset))
      for name, experiment, dataset_name, dataset in study_file.datasets(study)
    ]
    for key, content_of in of_dataset.items()
  }
  contents['clips'] = [
    (f'{name} \u00b7 {dataset_name}', experiment, answers[name, dataset_name])
    for name, experiment, dataset_name, _ in study_file.datasets(study)
  ]
  contents |= {
    key: [
      (name, experiment, content_of(experiment))
      for name, experiment in study['experiments'].items()
    ]
    for key, content_of in of_experiment.items()
  }
  return [_section(key, parts) for key, parts in contents.items() if any(p[2] for p in parts)]


def _section(key: str, parts: list[tuple[str, dict[str, Any], Any]]) -> Section:
  """A section of those parts (heading, experiment, content) that have content."""
  blocks = [
    Block(f'{key}-{number}', f'{key} {heading}', heading, experiment, content)
    for number, (heading, experiment, content) in enumerate(parts)
    if content
  ]
  return Section(key, _TITLES[key], _NOTES.get(key, ''), blocks)
