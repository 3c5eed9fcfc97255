"""How the numbers came about: configs, versions, intervals, and how to form them again."""

import json
from typing import Any

from zsar_jax.bias.report import heatmap
from zsar_jax.bias.report.markup import Markup, breakable, element, join

INTERVALS = (
  'Every rate is a ratio of two sums over clips. Its 95 % interval is a percentile bootstrap: clips'
  ' are drawn with replacement, the same clips for all seeds, and where there are several seeds'
  ' these are drawn as well; the interval holds the middle 95 % of the ratios. A difference of two'
  ' runs is formed within each draw, from the same clips and seeds for both, so that what is hard'
  ' for both cancels out. Of few seeds a bootstrap knows little: their part of an interval is'
  ' rather too narrow. The intervals are not corrected for how many of them are shown.'
)

RECOMPUTE = (
  'The folder of each training has predictions/DATASET.npz: the logits of every clip under every'
  ' validation recipe, in the order of its recipes, ids and classes, which NumPy reads by itself.'
  ' A top-1 and its interval are formed from them, in the folder of the study, like this:'
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
          'from zsar_jax.bias import metrics, predictions, statistics\n\n'
          f'paths = [\n{paths}]\n'
          f'recipe = {experiment["recipes"][0]!r}\n'
          'top1 = [metrics.top_1(predictions.load(path), recipe) for path in paths]\n'
          'print(statistics.estimate(metrics.stack(top1)))\n'
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
        element('td', entry['about']),
        element('td', element('code', breakable(entry['recipe']))),
        element('td', element('ul', changes) if changes else 'nothing'),
        element('td', element('ul', folders) if folders else None),
      )
    )
  if not rows:
    return None
  head = ('run', 'what it is', 'trained under', 'changes', 'folders')
  table = element(
    'table',
    element('thead', element('tr', [element('th', name, scope='col') for name in head])),
    element('tbody', rows),
    class_='plain runs',
  )
  whole = [
    element(
      'details',
      element('summary', 'Whole config of ', element('bdi', run, class_='name')),
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
    element('h3', 'Intervals'),
    element('p', INTERVALS),
    [element('h3', 'From the predictions'), element('p', RECOMPUTE), element('pre', code)]
    if code
    else None,
  )
