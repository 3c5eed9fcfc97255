"""How the numbers came about: configs, versions, intervals, and how to form them again."""

import json
from typing import Any

from zsar_jax.study.report import heatmap
from zsar_jax.study.report.markup import Markup, breakable, element, join

INTERVALS = (
  'Each rate is the ratio of two sums over clips. Clips without masks do not count under a recipe'
  ' that paints regions, and clips without a partner do not count where backgrounds are swapped. A'
  ' difference, its interval and its p-value are computed over the clips that count on both sides.',
  'The 95 % intervals are percentile bootstrap intervals: clips are drawn with replacement, the'
  ' same clips for all seeds; where there are several seeds, seeds are drawn as well. For a'
  ' difference, both sides use the same clips and seeds in each draw. With few seeds, the part of'
  ' the interval that is due to seeds is too narrow. The intervals are not corrected for their'
  ' number.',
  'The p-value of a difference is the share of draws without a gain (one-sided). The McNemar'
  ' p-values, one for each seed, test whether both runs are right equally often (exact,'
  ' two-sided). Chance is the value of a model that guesses evenly among all classes.',
)

RECOMPUTE = (
  'The folder of each training has predictions/DATASET.npz: the logits of every clip under every'
  ' validation recipe, in the order of its recipes, ids and classes. NumPy reads this file. In the'
  ' folder of the study, this code computes a top-1 and its interval:'
)


def example(study: dict[str, Any]) -> str:
  """Python code that forms the first top-1 of the study again; empty if there is none."""
  for experiment in study['experiments'].values():
    for run in experiment['runs'].values():
      for dataset in experiment['datasets'] if run['folders'] and experiment['recipes'] else ():
        paths = ''.join(
          f'  {f"{folder}/predictions/{dataset}.npz"!r},\n' for folder in run['folders'].values()
        )
        return (
          'from zsar_jax.evaluation import metrics, predictions, ratio\n'
          'from zsar_jax.study import statistics\n\n'
          f'paths = [\n{paths}]\n'
          f'recipe = {experiment["recipes"][0]!r}\n'
          'top1 = [metrics.top_1(predictions.load(path), recipe) for path in paths]\n'
          'print(statistics.estimate(ratio.stack_seeds(top1)))\n'
        )
  return ''


def setting(value: Any) -> str:
  """A setting's value, as JSON."""
  return json.dumps(value, ensure_ascii=False)


def configs(experiment: dict[str, Any]) -> Markup | None:
  """What each run changes in the baseline, where it lies, and its whole config folded away."""
  rows = []
  for run, entry in experiment['runs'].items():
    changes = [
      element('li', element('code', breakable(f'{field} = {setting(value)}')))
      for field, value in entry['changes'].items()
    ]
    folders = [
      element('li', f'seed {seed}: ', element('code', breakable(folder)))
      for seed, folder in entry['folders'].items()
    ]
    rows.append(
      element(
        'tr',
        heatmap.run_heading(experiment, run),
        element('td', entry['about'], data_label='description'),
        element('td', element('code', breakable(entry['recipe'])), data_label='training recipe'),
        element('td', element('ul', changes) if changes else 'nothing', data_label='changes'),
        element('td', element('ul', folders) if folders else None, data_label='folders'),
      )
    )
  if not rows:
    return None
  head = ('run', 'description', 'training recipe', 'changes', 'folders')
  table = element(
    'table',
    element('thead', element('tr', [element('th', name, scope='col') for name in head])),
    element('tbody', rows),
    class_='plain runs stack',
  )
  whole = [
    element(
      'details',
      element('summary', 'Complete config of ', element('bdi', run, class_='name')),
      element('pre', json.dumps(entry['config'], indent=2, ensure_ascii=False)),
    )
    for run, entry in experiment['runs'].items()
    if entry['config']
  ]
  return join(element('div', table, class_='scroll', tabindex='0'), whole)


def method(study: dict[str, Any]) -> Markup:
  """Command, hardware, versions, intervals, and the way from predictions to numbers."""
  facts = [('Command', element('code', study['command'])), ('Hardware', study['hardware'])]
  facts += [(name, version) for name, version in study['versions'].items()]
  code = example(study)
  return join(
    element('dl', [join(element('dt', name), element('dd', text)) for name, text in facts]),
    element('h3', 'Intervals and p-values'),
    [element('p', paragraph) for paragraph in INTERVALS],
    [element('h3', 'From the predictions'), element('p', RECOMPUTE), element('pre', code)]
    if code
    else None,
  )
