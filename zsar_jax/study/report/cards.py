"""Bias cards: a page for each model of a study, with its protocol and all its figures.

They lie in the folder cards/ beside report.html.
"""

import pathlib
from typing import Any

from markupsafe import Markup

from zsar_jax.storage import files
from zsar_jax.study.report import (
  metric_labels,
  paper,
  rankings,
  recipe_metrics,
  study_file,
  tables,
)
from zsar_jax.study.report.study_file import NO_ESTIMATE

FOLDER = 'cards'

# What the samplings of `config.view.sampling` take.
_SAMPLINGS = {
  'segments': 'the middle of equal segments',
  'starts': 'the starts of equal segments',
  'ends': 'evenly, from the first frame to the last',
}

_STRATA = 'Top-1 of unpainted clips by their attributes, with 95\u00a0% intervals'


def href(study: dict[str, Any], experiment: dict[str, Any], run: str) -> str:
  """The link from the report to the card of a run."""
  name = next(name for name, other in study['experiments'].items() if other is experiment)
  return f'{FOLDER}/{file_names(study)[name, run]}'


def file_names(study: dict[str, Any]) -> dict[tuple[str, str], str]:
  """The name of the card of each experiment and run."""
  names: dict[tuple[str, str], str] = {}
  for name, experiment in study['experiments'].items():
    for run in experiment['runs']:
      used = [file.removesuffix('.html') for file in names.values()]
      names[name, run] = f'{paper.free_name(f"{name}-{run}", used)}.html'
  return names


def write(pages: dict[str, str], folder: pathlib.Path) -> None:
  """Writes cards.

  Args:
    pages: the text of each page by the name of its file.
    folder: the folder of the study.
  """
  (folder / FOLDER).mkdir(exist_ok=True)
  for name, text in pages.items():
    files.write_file(folder / FOLDER / name, text)


def facts(run: dict[str, Any]) -> list[tuple[str, str]]:
  """What the model of a run is and how it was evaluated, as terms and texts."""
  protocol = run['protocol'] or {}
  entries = [
    ('Model', run['source'] or 'trained in this study'),
    ('Trained on', run['trained_on'] or 'not stated'),
    ('Training recipe', run['recipe'] or 'only evaluated'),
    ('License of the weights', run['license'] or 'not stated'),
  ]
  if 'architecture' in protocol:
    entries += _model_facts(protocol)
  if 'view' in protocol:
    entries += _view_facts(protocol)
  entries += [('Note', note) for note in protocol.get('notes', ())]
  return entries


def _model_facts(protocol: dict[str, Any]) -> list[tuple[str, str]]:
  towers, video = protocol['towers'], protocol['video']
  image = f'{towers["image_layers"]} layers of width {towers["image_width"]}'
  text = f'{towers["text_layers"]} layers of width {towers["text_width"]}'
  size = f'{protocol["parameters"]:,}'.replace(',', '\u202f')
  entries = [
    ('Architecture', f'{protocol["architecture"]}; image tower {image}, text tower {text}'),
    ('Frames are combined by', video['temporal']),
    ('Parameters', size),
    ('Normalization', protocol['normalization']),
  ]
  return [('Format', protocol['format']), *entries] if 'format' in protocol else entries


def _view_facts(protocol: dict[str, Any]) -> list[tuple[str, str]]:
  view, views = protocol['view'], protocol['views']
  share = f'{100 * view["centre_crop"]:.4g}\u00a0%'
  if view['resize'] != 'squash':
    cut = f'a central square, {share} of the short side'
  elif view['centre_crop'] < 1:
    cut = f'resized to a square, of which the central {share} of each side remain'
  else:
    cut = 'resized to a square'
  side = view['size']
  return [
    ('Frames', f'{view["num_frames"]} of {side} \u00d7 {side} pixels, {view["interpolation"]}'),
    ('Sampled in time', _SAMPLINGS[view['sampling']]),
    ('Cut', cut),
    (
      'Views of a clip',
      f'{views["clips"]} in time, {views["crops"]} in space; mean of {views["view_mean"]}',
    ),
    ('Class texts', ' | '.join(protocol['templates'])),
  ]


def tables_of(
  experiment: dict[str, Any], dataset: dict[str, Any], run: str
) -> list[tuple[str, tables.Table]]:
  """The tables of a run on a data set, with the kind of each."""
  by_kind = {
    'accuracy': _accuracy_table(experiment, dataset, run),
    'bias': _bias_table(dataset, run),
    'recipe_metrics': recipe_metrics.of_run(experiment, dataset, run),
    'strata': _strata_table(dataset, run),
  }
  return [(kind, table) for kind, table in by_kind.items() if table]


def _accuracy_table(experiment: dict[str, Any], dataset: dict[str, Any], run: str) -> tables.Table:
  """The accuracies of a run under each recipe."""
  evaluated = {
    metric for by_metric in dataset['matrix'].get(run, {}).values() for metric in by_metric
  }
  labels = {
    metric: label for metric, label in metric_labels.ACCURACIES.items() if metric in evaluated
  }
  rows = [
    (
      recipe,
      [tables.Value(study_file.accuracy(dataset, run, recipe, metric)) for metric in labels],
    )
    for recipe in experiment['recipes']
  ]
  caption = 'Accuracy, %, with 95\u00a0% intervals'
  return tables.Table(caption, list(labels.values()), {'': rows}, 'recipe')


def _bias_table(dataset: dict[str, Any], run: str) -> tables.Table | None:
  """The bias metrics of a run, with its ranks; None without any."""
  ranks = {entry['figure']: entry for entry in dataset['ranking']}
  groups: dict[str, list[tuple[str, list[tables.Cell]]]] = {}
  for unit, labels in (
    (tables.PERCENT, metric_labels.RATES),
    (tables.POINTS, metric_labels.DIFFERENCES),
    (tables.NUMBER, metric_labels.GAPS),
  ):
    for metric, label in labels.items():
      estimate = dataset['bias'].get(run, {}).get(metric)
      if estimate:
        cells: list[tables.Cell] = [tables.Value(estimate, unit)]
        if ranks:
          cells.append(_rank(ranks.get(metric), run))
        rows = groups.setdefault(unit.name or 'no unit', [])
        rows.append((f'{label.title} {label.arrow}', [*cells, label.meaning]))
  if not groups:
    return None
  columns = ['value', 'rank', 'meaning'] if ranks else ['value', 'meaning']
  return tables.Table('Bias metrics, with 95\u00a0% intervals', columns, groups, 'metric')


def _rank(entry: dict[str, Any] | None, run: str) -> str | None:
  text = rankings.rank_text(entry, run) if entry else None
  if not entry or not text:
    return None
  rank, tied, _ = text.partition(' =')
  return f'{rank} of {len(entry["runs"])}{", tied" if tied else ""}'


def _strata_table(dataset: dict[str, Any], run: str) -> tables.Table | None:
  """Top-1 of a run by attribute of the clips; None without attributes."""
  groups = {
    attribute: [
      (value, [tables.Value(estimate or NO_ESTIMATE)]) for value, estimate in values.items()
    ]
    for attribute, values in dataset['strata'].get(run, {}).items()
  }
  return tables.Table(_STRATA, ['top-1'], groups, 'clips') if groups else None


def beside(links: Markup) -> Markup:
  """The links to files of papers, from a page in the folder of the cards."""
  # `Markup.replace` would escape the quotation mark.
  return Markup(str(links).replace(f'href="{paper.FOLDER}/', f'href="../{paper.FOLDER}/'))
