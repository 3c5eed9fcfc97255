"""The report as Markdown for GitHub: the tables, the answers, the pictures by relative path."""

import pathlib
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

from zsar_jax.study import statistics
from zsar_jax.study.report import gallery, method, sentences, words
from zsar_jax.study.report import results as studies
from zsar_jax.study.report.markup import clean, undirected

# Classes of a run with the largest gains and with the smallest that are listed.
_CLASSES = 5

_SIGNS = {statistics.HOLDS: '✓', statistics.HOLDS_ON_AVERAGE: '≈', statistics.DOES_NOT_HOLD: '✗'}

# Clips of a data set that are shown; report.html has all of them.
_CLIPS = 3


def make_markdown(study: dict[str, Any], folder: pathlib.Path) -> str:
  """The text.

  Args:
    study: as `study.read` gives it.
    folder: where its pictures are.

  Raises:
    UserError: if a picture lies outside the folder.
  """
  blocks = [f'# {escaped(study["title"])}', escaped(study['about'] or '')]
  blocks.append(sentences.what_was_done(study))
  blocks += _findings(study)
  for name, experiment in study['experiments'].items():
    blocks += [f'## {escaped(name)}', escaped(experiment['about'])]
    for dataset_name, dataset in experiment['datasets'].items():
      blocks += [f'### {escaped(name)} · {escaped(dataset_name)}', escaped(dataset['about'])]
      blocks += _answer(experiment, dataset_name, dataset)
      blocks += _matrix(experiment, dataset)
      blocks += _bias(experiment, dataset)
      blocks += _classes(experiment, dataset)
      blocks += _strata(experiment, dataset)
      blocks += _saliency(experiment, dataset)
      blocks += _gallery(experiment, dataset, folder)
    blocks += _runs(experiment)
  blocks += _method(study)
  return '\n\n'.join(block for block in blocks if block) + '\n'


def escaped(text: str) -> str:
  """A foreign text on one line, with nothing in it that Markdown or HTML would act on."""
  text = ' '.join(undirected(clean(text)).split())
  text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
  # An address would become a link by itself; a line's beginning can make lists and headings.
  text = re.sub(r'([\\`*_{}\[\]|~#])', r'\\\1', text)
  text = re.sub(r'(?i)\b(https?|ftp)://', r'\1:<span>//</span>', text)
  text = re.sub(r'(?i)\bwww\.', '<span>www</span>.', text)
  return re.sub(r'^([-+]|\d+[.)])(?=\s|$)', r'\\\1', text)


def spoken(sentence: sentences.Sentence) -> str:
  """A sentence with its names in bold."""
  return ''.join(map(_part, sentence))


def _part(part: str) -> str:
  if isinstance(part, sentences.Name):
    return f'**{escaped(part)}**'
  return escaped(part) if isinstance(part, sentences.Foreign) else part


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
  """A table of cells that are Markdown already; its first `texts` columns are no numbers."""
  lines = [head, ['---' if place < texts else '---:' for place in range(len(head))], *rows]
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _findings(study: dict[str, Any]) -> list[str]:
  if not study['findings']:
    return []
  rows = []
  for entry in study['findings']:
    estimate = entry['estimate']
    rows.append([
      escaped(entry['statement']),
      f'{_SIGNS[entry["verdict"]]} {entry["verdict"]}',
      words.points(estimate['value']),
      words.interval(estimate, words.points),
      _count(estimate['count']),
      words.points(entry['threshold']),
      ', '.join(map(words.points, entry['per_seed'])),
    ])  # fmt: skip
  head = ['finding', 'verdict', 'points', '95 % interval', 'clips', 'threshold', 'seeds']
  explained = [
    f'- **{escaped(entry["name"])}**: {escaped(entry["explanation"])}'
    f' {spoken(sentences.sides(study, entry))}'
    for entry in study['findings']
  ]
  return ['## Findings', table(head, rows, 2), '\n'.join(explained)]


def _count(count: int | None) -> str:
  return words.MISSING if count is None else str(count)


def _counts(estimates: Iterable[studies.Estimate]) -> str:
  """'160', '150 to 160': of how many clips some numbers are."""
  return words.clips_of(estimates).removesuffix(' clips').removesuffix(' clip') or words.MISSING


def _answer(experiment: dict[str, Any], name: str, dataset: dict[str, Any]) -> list[str]:
  found = sentences.answer(experiment, name, dataset)
  if found is None:
    return []
  return [
    f'Does this model see the action? {spoken(found.verdict)}.',
    ' '.join(map(spoken, found.sentences)),
  ]


def _run_name(experiment: dict[str, Any], run: str) -> str:
  return f'{escaped(run)} (baseline)' if run == experiment['baseline'] else escaped(run)


def _matrix(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
  recipes = experiment['recipes']
  head = ['run \\\\ validation recipe', *map(escaped, recipes)]
  rows = []
  for run in experiment['runs']:
    cells = [_run_name(experiment, run)]
    for recipe in recipes:
      value = words.percent(studies.matrix_cell(dataset, run, recipe, 'top1')['value'])
      gain = studies.difference_cell(dataset, run, recipe)
      if gain['value'] is not None:
        change = words.points(gain['value'])
        value += f' (**{change}**)' if words.certain(gain) else f' ({change})'
      cells.append(value)
    rows.append(cells)
  if not rows or not recipes:
    return []
  columns = [
    [studies.matrix_cell(dataset, run, recipe, 'top1') for run in experiment['runs']]
    for recipe in recipes
  ]
  rows.append(['clips', *map(_counts, columns)])
  gains = [
    [studies.difference_cell(dataset, run, recipe) for run in dataset['difference']]
    for recipe in recipes
  ]
  of_gains = list(map(_counts, gains))
  if dataset['difference'] and of_gains != rows[-1][1:]:
    rows.append(['clips of the differences', *of_gains])
  note = (
    'Top-1 in %, and the difference to the baseline in points over the clips that count for both'
    ' (bold: its 95 % interval does not include 0).'
  )
  level = words.chance_of(cell for column in columns for cell in column)
  if level is not None:
    note += f' Chance is {words.percent(level)} %.'
  return [note, table(head, rows)]


def _bias(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
  kinds = [(name, metric, words.percent) for name, metric in words.RATES.items()]
  kinds += [(name, metric, words.plain) for name, metric in words.GAPS.items()]
  kinds = [kind for kind in kinds if any(kind[0] in found for found in dataset['bias'].values())]
  if not kinds:
    return []
  head = [
    'metric',
    'better',
    'clips',
    'chance',
    *(_run_name(experiment, run) for run in experiment['runs']),
  ]
  rows = []
  for name, metric, write in kinds:
    estimates = {run: dataset['bias'].get(run, {}).get(name) for run in experiment['runs']}
    known = [estimate for estimate in estimates.values() if estimate]
    level = words.chance_of(known)
    cells = [metric.title, f'{"↓" if metric.better == "lower" else "↑"} {metric.better}']
    cells += [_counts(known), '' if level is None else write(level)]
    for estimate in estimates.values():
      cells.append(_with_interval(estimate, write) if estimate else words.MISSING)
    rows.append(cells)
  return ['Bias metrics, rates in %, with 95 % intervals:', table(head, rows, 2)]


def _with_interval(estimate: studies.Estimate, write=words.percent) -> str:
  between = words.interval(estimate, write)
  value = write(estimate['value'])
  return f'{value} [{between}]' if between and estimate['value'] is not None else value


def _classes(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
  best = studies.best_run(experiment, dataset)
  entries = [
    entry for entry in dataset['classes_gain'].get(best, []) if entry['gain']['value'] is not None
  ]
  if not entries:
    return []
  entries.sort(key=lambda entry: entry['gain']['value'], reverse=True)
  shown = entries
  if len(entries) > 2 * _CLASSES:
    shown = entries[:_CLASSES] + entries[-_CLASSES:]
  rows = [
    [
      escaped(entry['class']),
      str(entry['count']),
      words.percent(entry['baseline']),
      words.percent(entry['accuracy']),
      f'{words.points(entry["gain"]["value"])} [{words.interval(entry["gain"], words.points)}]',
    ]
    for entry in shown
  ]
  title = f'The classes with the largest and the smallest gains of **{escaped(best)}**'
  head = ['class', 'clips', 'baseline, %', 'this run, %', 'gain, points']
  return [f'{title} ({len(shown)} of {len(entries)}):', table(head, rows)]


def _strata(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
  groups = {
    (attribute, value): None
    for found in dataset['strata'].values()
    for attribute, values in found.items()
    for value in values
  }
  if not groups:
    return []
  head = ['top-1, %', *(f'{escaped(attribute)}: {escaped(value)}' for attribute, value in groups)]
  of_groups = [
    [
      found[attribute][value]
      for found in dataset['strata'].values()
      if value in found.get(attribute, {})
    ]
    for attribute, value in groups
  ]
  rows = []
  for run in experiment['runs']:
    if run in dataset['strata']:
      found = dataset['strata'][run]
      estimates = [found.get(attribute, {}).get(value) for attribute, value in groups]
      cells = [_with_interval(estimate) if estimate else words.MISSING for estimate in estimates]
      rows.append([_run_name(experiment, run), *cells])
  rows.append(['clips', *map(_counts, of_groups)])
  return [table(head, rows)]


def _saliency(experiment: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
  parts = ('person', 'object', 'background')
  rows = [
    [
      _run_name(experiment, run),
      _counts(found[part] for part in parts),
      *(_with_interval(found[part]) for part in parts),
      *(words.percent(found['area'][part]) for part in parts),
    ]
    for run in experiment['runs']
    if (found := dataset['saliency'].get(run))
  ]
  if not rows:
    return []
  head = ['share of the gradient, %', 'clips', *parts, *(f'area of {part}' for part in parts)]
  return [table(head, rows)]


def _gallery(
  experiment: dict[str, Any], dataset: dict[str, Any], folder: pathlib.Path
) -> list[str]:
  blocks = []
  for clip in dataset['gallery'][:_CLIPS]:
    blocks.append(f'**{escaped(clip["class"])}**, {escaped(clip["clip"])}: {escaped(clip["why"])}')
    rows = []
    for recipe in experiment['recipes']:
      reason = sentences.not_shown(clip, recipe)
      answers = ['' if reason else _named(clip, run, recipe) for run in experiment['runs']]
      path = clip['pictures'].get(recipe)
      if path and gallery.picture_file(folder.resolve(), path).is_file():
        picture = f'![{escaped(recipe)}]({urllib.parse.quote(clean(path))})'
      else:
        picture = ''
      note = reason or sentences.unpainted(clip, recipe)
      picture = ' '.join(text for text in (picture, escaped(note or '')) if text)
      if picture or any(answers):
        rows.append([escaped(recipe), picture, *answers])
    if rows:
      head = ['recipe', 'frames', *map(escaped, experiment['runs'])]
      blocks.append(table(head, rows, len(head)))
  return blocks


def _named(clip: dict[str, Any], run: str, recipe: str) -> str:
  if run not in clip['predictions']:
    return ''
  ranked = clip['predictions'][run].get(recipe)
  if not ranked:
    return sentences.NO_ANSWER
  name, probability = ranked[0]
  mark = '✓' if name == clip['class'] else '✗'
  return f'{mark} {escaped(name)} {words.percent(probability)} %'


def _runs(experiment: dict[str, Any]) -> list[str]:
  rows = [
    [
      _run_name(experiment, run),
      escaped(entry['about']),
      escaped(entry['recipe']),
      escaped(', '.join(f'{k} = {method.setting(v)}' for k, v in entry['changes'].items())),
    ]
    for run, entry in experiment['runs'].items()
  ]
  head = ['run', 'description', 'training recipe', 'changes']
  return [table(head, rows, len(head))] if rows else []


def _method(study: dict[str, Any]) -> list[str]:
  versions = ', '.join(f'{name} {version}' for name, version in study['versions'].items())
  facts = [('Command', study['command']), ('Hardware', study['hardware']), ('Versions', versions)]
  code = method.example(study)
  return [
    '## How to reproduce these numbers',
    '\n'.join(f'- {name}: {escaped(text)}' for name, text in facts if text),
    *method.INTERVALS,
    *([method.RECOMPUTE, _fenced(code)] if code else []),
  ]


def _fenced(code: str) -> str:
  """A block of code whose fence is longer than any run of backticks in it."""
  longest = max((len(run) for run in re.findall('`+', code)), default=0)
  fence = '`' * max(3, longest + 1)
  return f'{fence}python\n{clean(code)}{fence}'
