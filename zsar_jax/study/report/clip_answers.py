"""All clips of a data set with the answers of each run, packed into the page for clip_answers.js.

The pack is compressed by zlib: the length of a JSON header in 4 bytes, the header, and arrays of
little-endian integers, N clips each:

    u16[N]            label
    u16[N]            class of the clip whose background this clip gets, `NONE` without one
    u16[N]            for each attribute of the header: its value, 0 if the clip lacks it
    u8 or u16[N]      for each run and then each recipe: RIGHT, NOT_COUNTED, NO_ANSWER, or WRONG
                      plus the class that was answered; u8 if all of them fit

Answers are those of the trainings with the first seed. 20,000 clips of 6 runs under 10 recipes are
1.2 million answers, or about 1.5 MB in the page.
"""

import base64
import dataclasses
import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.evaluation import bias_metrics, metrics, predictions
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.recipes import language
from zsar_jax.study.report import number_format, study_file
from zsar_jax.study.report.foreign_text import clean, undirected

RIGHT, NOT_COUNTED, NO_ANSWER, WRONG = range(4)
NONE = 0xFFFF

# Values of an attribute that a list can offer; an attribute with more, such as a time, is left out.
_VALUES = 200


@dataclasses.dataclass(frozen=True)
class ClipAnswers:
  """The answers of a data set.

  Attributes:
    pack: the packed answers in base64.
    count: the number of clips.
    missing: runs without predictions in the study's folder.
  """

  pack: str
  count: int
  missing: list[str]


def clip_answers(
  experiment: dict[str, Any], name: str, dataset: dict[str, Any], folder: pathlib.Path
) -> ClipAnswers | None:
  """Packs the answers of a data set; None if the folder has no predictions of it.

  Args:
    experiment: the experiment in study.json.
    name: the name of the data set.
    dataset: the data set in study.json.
    folder: the folder of the study, with the predictions of its runs.

  Raises:
    UserError: predictions are damaged, lie outside the folder, or are of different clips.
  """
  codes: dict[str, np.ndarray] = {}
  reference: Predictions | None = None
  recipes: list[str] = []
  for run, entry in experiment['runs'].items():
    of_run = _load(entry['folders'], name, folder.resolve())
    if of_run is None:
      continue
    if reference is None:
      reference = of_run
      recipes = [recipe for recipe in experiment['recipes'] if recipe in of_run.logits]
    predictions.check_same_clips(reference, of_run)
    codes[run] = np.stack([_codes(of_run, recipe) for recipe in recipes])
  if reference is None or not recipes:
    return None
  pack = _pack(experiment, reference, recipes, codes)
  missing = [run for run in experiment['runs'] if run not in codes]
  return ClipAnswers(base64.b64encode(pack).decode('ascii'), len(reference.ids), missing)


def _load(folders: Mapping[str, str], name: str, folder: pathlib.Path) -> Predictions | None:
  """The predictions of the first seed, if the folder has them."""
  for run_folder in folders.values():
    path = f'{run_folder}/predictions/{name}.npz'
    file = study_file.inside(folder, path, 'the file of predictions')
    return predictions.load(file) if file.is_file() else None
  return None


def _codes(of_run: Predictions, recipe: str) -> np.ndarray:
  """i64[N], the codes of the answers under a recipe; `NOT_COUNTED` if it was not evaluated."""
  if recipe not in of_run.logits:
    return np.full(len(of_run.ids), NOT_COUNTED)
  logits = of_run.logits[recipe]
  answers = WRONG + logits.argmax(axis=1)
  answers[metrics.label_ranks(of_run, recipe) == 0] = RIGHT
  answers[~np.isfinite(logits).all(axis=1)] = NO_ANSWER
  answers[~of_run.counted(recipe)] = NOT_COUNTED
  return answers


def _pack(
  experiment: dict[str, Any],
  reference: Predictions,
  recipes: list[str],
  codes: dict[str, np.ndarray],
) -> bytes:
  attributes, columns = _attributes(reference)
  codes_type = '<u1' if WRONG + len(reference.classes) <= 256 else '<u2'
  header = {
    'runs': list(map(_text, codes)),
    'baseline': _text(experiment['baseline']),
    'recipes': recipes,
    'main': study_file.main_recipe(experiment),
    'background': bias_metrics.background_recipe(recipes),
    'swaps': [recipe for recipe in recipes if language.parse(recipe).swap_part],
    'classes': list(map(_text, reference.classes)),
    'attributes': [[_text(name), list(map(_text, values))] for name, values in attributes],
    'ids': list(map(_text, reference.ids)),
    'bytes': int(codes_type[-1]),
  }
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 4)
  partners = np.where(reference.partner_labels < 0, NONE, reference.partner_labels)
  arrays = [
    *(column.astype('<u2') for column in (reference.labels, partners, *columns)),
    *(of_run.astype(codes_type) for of_run in codes.values()),
  ]
  content = [len(text).to_bytes(4, 'little'), text, *(array.tobytes() for array in arrays)]
  return zlib.compress(b''.join(content), 9)


def _attributes(reference: Predictions) -> tuple[list[tuple[str, list[str]]], list[np.ndarray]]:
  """The attributes of the clips: (name, values) of each, and the number of each clip's value.

  The last one is the share of the frame that people cover.
  """
  names = sorted({name for of_clip in reference.attributes for name in of_clip})
  texts = {name: [of_clip.get(name, '') for of_clip in reference.attributes] for name in names}
  attributes, columns = [], []
  for name, of_clips in texts.items():
    values = ['', *sorted(set(of_clips) - {''})]
    if len(set(of_clips)) > 1 and len(values) <= _VALUES:
      numbers = {value: number for number, value in enumerate(values)}
      attributes.append((name, values))
      columns.append(np.array([numbers[value] for value in of_clips]))
  if reference.actor in reference.regions:
    shares = reference.coverage[:, reference.regions.index(reference.actor)]
    edges = metrics.COVERAGE_EDGES
    bins = np.clip(np.digitize(np.clip(shares, 0, 1), edges), 1, len(edges) - 1)
    column = np.where(np.isfinite(shares), bins, 0)
    if len(np.unique(column)) > 1:
      spans = [
        f'{number_format.percent(low)} to {number_format.percent(high)} %'
        for low, high in zip(edges, edges[1:], strict=False)
      ]
      attributes.append(("people's share of the frame", ['', *spans]))
      columns.append(column)
  return attributes, columns


def _text(text: str) -> str:
  return undirected(clean(text))
