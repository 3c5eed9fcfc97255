"""The list of exported clips: all that is needed to score another program's logits of them.

`zsar export-clips` writes two files into the folder of each data set. `clips.json` is read by
`zsar score-predictions`:

    format, version     'zsar_jax exported clips', 1
    dataset             the data set's name in the config
    protocol            what a model is shown: frames, views and class texts, see `protocol`
    made                how: the version of zsar_jax, the kind of files, checksums of the data set
    groups              `config.eval.groups`
    classes             C names
    texts               [P][C], the class texts in P templates
    recipes             R validation recipes
    views               V, the number of views of each clip
    view_mean           'probabilities' or 'logits', `config.eval.view_mean`
    regions             K names
    inpainted_scenes    whether swapped backgrounds are inpainted frames
    choices             `config.eval.choices`
    pairs               if classes are pairs of a verb and an object: `VerbObjects.to_json`; only
                        the closed world is scored
    clips               N objects: id, label, fps, coverage [K], attributes, partner, partner_label

`files.csv` has a row for each file, `FILE_COLUMNS`, and is written last.
"""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.data.verb_objects import VerbObjects
from zsar_jax.errors import UserError, error_reason
from zsar_jax.evaluation.pair_predictions import PairPredictions
from zsar_jax.evaluation.predictions import PARTS, Predictions
from zsar_jax.evaluation.protocol import check_use
from zsar_jax.storage.files import open_atomically, write_file

LIST, FILES = 'clips.json', 'files.csv'
FORMAT, VERSION = 'zsar_jax exported clips', 1

# `frames` is T; a file is an mp4, or a folder with T numbered images.
FILE_COLUMNS = ('clip', 'recipe', 'view', 'file', 'class', 'frames', 'fps')

# The most bytes of a list that are read: half a million clips.
_MAX_BYTES = 256 * 2**20

# The most views of all clips under all recipes.
_MAX_ROWS = 10**7

# (id of a clip, recipe, view from 0)
Row = tuple[str, str, int]


@dataclasses.dataclass(frozen=True)
class ClipList:
  """The exported clips of a data set.

  Attributes:
    blank: the clips, as predictions whose logits mean nothing.
    texts: [P][C], the class texts.
    fps: for each clip the frames per second at which its T frames take as long as the clip.
    views: V.
    view_mean: see `config.eval.view_mean`.
    groups: see `config.eval.groups`.
    protocol: from `protocol.describe_use`.
    made: how the clips were made, of types that JSON has.
  """

  blank: Predictions
  texts: list[list[str]]
  fps: list[float]
  views: int
  view_mean: str
  groups: dict[str, list[str]]
  protocol: dict[str, Any]
  made: dict[str, Any]

  def rows(self) -> list[Row]:
    """Returns the views that are exported: of the clips that count under a recipe."""
    return [
      (self.blank.ids[position], recipe, view)
      for recipe in self.blank.recipes
      for position in np.flatnonzero(self.blank.counted(recipe)).tolist()
      for view in range(self.views)
    ]

  def to_json(self) -> str:
    """Returns the content of clips.json, with a line for each clip."""
    blank = self.blank
    clips = [
      {
        'id': blank.ids[n],
        'label': int(blank.labels[n]),
        'fps': self.fps[n],
        'coverage': [None if math.isnan(share) else share for share in blank.coverage[n].tolist()],
        'attributes': blank.attributes[n],
        'partner': blank.partners[n],
        'partner_label': int(blank.partner_labels[n]),
      }
      for n in range(len(blank.ids))
    ]
    head = {
      'format': FORMAT,
      'version': VERSION,
      'dataset': blank.dataset,
      'protocol': self.protocol,
      'made': self.made,
      'groups': self.groups,
      'classes': list(blank.classes),
      'texts': self.texts,
      'recipes': list(blank.recipes),
      'views': self.views,
      'view_mean': self.view_mean,
      'regions': list(blank.regions),
      'inpainted_scenes': blank.inpainted_scenes,
      'choices': blank.choices,
    }
    if blank.pairs:
      head['pairs'] = blank.pairs.vocabulary.to_json()
    lines = ',\n'.join(f'  {json.dumps(clip)}' for clip in clips)
    return f'{json.dumps(head, indent=1)[:-2]},\n "clips": [\n{lines}\n ]\n}}\n'

  def save(self, folder: pathlib.Path) -> None:
    """Writes clips.json."""
    write_file(folder / LIST, self.to_json())

  def save_files(self, folder: pathlib.Path, files: Sequence[str], frames: int) -> None:
    """Writes files.csv.

    Args:
      folder: the folder of the data set.
      files: the path of each of `rows`, relative to the folder.
      frames: T.
    """
    positions = {clip: n for n, clip in enumerate(self.blank.ids)}
    with open_atomically(folder / FILES) as file:
      lines = _TextLines(file)
      writer = csv.writer(lines)
      writer.writerow(FILE_COLUMNS)
      for (clip, recipe, view), path in zip(self.rows(), files, strict=True):
        n = positions[clip]
        label = self.blank.classes[self.blank.labels[n]]
        writer.writerow((clip, recipe, view, path, label, frames, self.fps[n]))


class _TextLines:
  """Writes text into a file of bytes, which `csv` does not do."""

  def __init__(self, file: Any):
    self._file = file

  def write(self, text: str) -> None:
    """Writes text in UTF-8."""
    self._file.write(text.encode())


def load(folder: pathlib.Path) -> ClipList:
  """Reads clips.json.

  Raises:
    UserError: the file is missing, damaged, of a later version or contradicts itself.
  """
  path = folder / LIST
  remedy = 'export the clips again with zsar export-clips'
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise UserError(f'{path}: it is larger than {_MAX_BYTES // 2**20} MiB; {remedy}')
    content = json.loads(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error_reason(error)}); {remedy}') from None
  except (ValueError, RecursionError):
    raise UserError(f'{path}: damaged, it is not JSON; {remedy}') from None
  if not isinstance(content, dict) or content.get('format') != FORMAT:
    raise UserError(f'{path}: it is no list of exported clips; {remedy}')
  if content.get('version') != VERSION:
    raise UserError(
      f'{path}: version {content.get("version")!r}, but this program reads {VERSION}; {remedy}'
    )
  try:
    return _from_json(content)
  except KeyError as error:
    raise UserError(f'{path}: the field {error} is missing; {remedy}') from None
  except (ValueError, TypeError, AttributeError, OverflowError, UserError) as error:
    raise UserError(f'{path}: damaged ({error}); {remedy}') from None


def _from_json(content: dict[str, Any]) -> ClipList:
  """Builds a list from its JSON; raises almost any exception if it is damaged."""
  clips = content['clips']
  if not clips:
    raise ValueError('clips: it is empty')
  classes, recipes = _texts(content, 'classes'), _texts(content, 'recipes')
  regions = _texts(content, 'regions')
  ids = tuple(clip['id'] for clip in clips)
  partners = tuple(clip['partner'] for clip in clips)
  if not all(isinstance(text, str) for text in (*ids, *partners, content['dataset'])):
    raise ValueError('an id is no text')
  if pathlib.PurePath(content['dataset']).name != content['dataset']:
    raise ValueError(f'dataset: {content["dataset"]!r} is no name')  # It becomes a file's name.
  views, view_mean = content['views'], content['view_mean']
  if type(views) is not int or not 1 <= views <= 3000:
    raise ValueError(f'views: {views!r} is no number of views')
  if views * len(clips) * len(recipes) > _MAX_ROWS:
    raise ValueError(f'views: {views} of {len(clips)} clips under {len(recipes)} recipes')
  if view_mean not in ('probabilities', 'logits'):
    raise ValueError(f'view_mean: {view_mean!r} is unknown')
  coverage = [[math.nan if x is None else float(x) for x in clip['coverage']] for clip in clips]
  unknown = np.full((len(ids), len(PARTS)), np.nan, np.float32)
  # No memory is taken for logits, however many clips and classes the list states.
  blank_logits = np.broadcast_to(np.float32(0), (len(ids), len(classes)))
  blank = Predictions(
    dataset=content['dataset'],
    recipes=recipes,
    classes=classes,
    ids=ids,
    labels=np.array([clip['label'] for clip in clips], np.int32),
    logits=dict.fromkeys(recipes, blank_logits),
    regions=regions,
    coverage=np.array(coverage, np.float32).reshape(len(ids), -1),
    attributes=tuple(clip['attributes'] for clip in clips),
    partners=partners,
    partner_labels=np.array([clip['partner_label'] for clip in clips], np.int32),
    saliency=unknown,
    saliency_area=unknown,
    inpainted_scenes=bool(content['inpainted_scenes']),
    pairs=PairPredictions(VerbObjects.from_json(content['pairs'])) if 'pairs' in content else None,
    choices=int(content['choices']),
  )
  groups = {
    str(name): [str(member) for member in members] for name, members in content['groups'].items()
  }
  fps = [float(clip['fps']) for clip in clips]
  check_use(content['protocol'])
  return ClipList(
    blank, content['texts'], fps, views, view_mean, groups, content['protocol'], content['made']
  )


def _texts(content: dict[str, Any], field: str) -> tuple[str, ...]:
  texts = content[field]
  if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
    raise ValueError(f'{field}: it is no list of texts')
  return tuple(texts)
