"""The data sets that `zsar build-dataset` builds, and the flags that each takes."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from zsar_jax import pantomime
from zsar_jax.data import records
from zsar_jax.datasets.builder import ClipBuilder
from zsar_jax.datasets.masks.something_else import SomethingElseBoxes
from zsar_jax.datasets.masks.source import MaskSource
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.datasets.sources.folder import list_files, list_folder
from zsar_jax.datasets.sources.kinetics import list_kinetics, list_mimetics
from zsar_jax.datasets.sources.listing import Listing
from zsar_jax.datasets.sources.ssv2 import list_ssv2
from zsar_jax.datasets.sources.ucf_hmdb import list_hmdb51, list_ucf101
from zsar_jax.datasets.video import DEFAULT_FPS, Storage
from zsar_jax.datasets.video_builder import VideoBuilder
from zsar_jax.errors import UserError
from zsar_jax.pantomime.worlds import Pantomime
from zsar_jax.storage.paths import path_text

# {flag without dashes: value}, for the flags that were given.
Values = dict[str, Any]

# The optional flags of every data set of videos.
_VIDEO_FLAGS = ('masks', 'boxes-from-shapes', 'short-side', 'jpeg-quality', 'keep', 'fps')


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set that can be built.

  Attributes:
    builders: maps --out, the name of the data set and its given flags to builders.
    required: the flags that must be given.
    optional: the flags that may be given.
  """

  builders: Callable[[str, str, Values], list[ClipBuilder]]
  required: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()

  @property
  def flags(self) -> tuple[str, ...]:
    """All flags of the data set."""
    return self.required + self.optional


def _pantomime(out: str, name: str, given: Values) -> list[ClipBuilder]:
  del name
  options = {flag.replace('-', '_'): value for flag, value in given.items()}
  return [Pantomime(out, world, **options) for world in pantomime.WORLDS]


def _videos(
  list_clips: Callable[[Values], Listing],
  required: tuple[str, ...] = ('videos', 'annotations'),
  optional: tuple[str, ...] = (),
) -> Source:
  """Creates the source of a data set of videos, whose clips `list_clips` lists."""

  def builders(out: str, name: str, given: Values) -> list[ClipBuilder]:
    listing = list_clips(given)
    masks: list[MaskSource] = [open_masks(text) for text in given.get('masks', ())]
    if 'boxes' in given:
      ids = {clip.id for clips in listing.splits.values() for clip in clips}
      masks.append(SomethingElseBoxes(given['boxes'], ids))
    storage = Storage(
      given.get('short-side'),
      given.get('jpeg-quality', records.JPEG_QUALITY),
      given.get('keep', 'all'),
    )
    from_shapes = given.get('boxes-from-shapes', False)
    fps = given.get('fps', DEFAULT_FPS)
    return [VideoBuilder(out, name, listing, storage, masks, from_shapes, fps)]

  return Source(builders, required, optional + _VIDEO_FLAGS)


def _kinetics(given: Values) -> Listing:
  return list_kinetics(given['videos'], given['annotations'], given.get('labels'))


def _folder(given: Values) -> Listing:
  if 'lists' not in given:
    return list_folder(given['videos'], given.get('labels'))
  lists = {}
  for text in given['lists']:
    split, equals, path = text.partition('=')
    if not equals or not re.fullmatch(r'[a-z][a-z0-9_]*', split) or split in lists:
      raise UserError(f'--lists: {text!r} must be SPLIT=FILE, such as train=train.txt, each once')
    lists[split] = path_text(path, '--lists')
  return list_files(given['videos'], lists, given.get('labels'))


def _annotation_folder(given: Values) -> str:
  """Returns the folder of annotations of a data set whose lists are published together."""
  if len(given['annotations']) > 1:
    raise UserError(f'--annotations: give one folder, not {len(given["annotations"])}')
  return given['annotations'][0]


SOURCES = {
  'pantomime': Source(
    _pantomime,
    optional=('seed', 'train-clips', 'validation-clips', 'test-clips', 'jpeg-quality'),
  ),
  'kinetics400': _videos(_kinetics, optional=('labels',)),
  'kinetics600': _videos(_kinetics, optional=('labels',)),
  'kinetics700': _videos(_kinetics, optional=('labels',)),
  'mimetics': _videos(lambda given: list_mimetics(given['videos'], _annotation_folder(given))),
  'ssv2': _videos(
    lambda given: list_ssv2(given['videos'], _annotation_folder(given)), optional=('boxes',)
  ),
  'ucf101': _videos(lambda given: list_ucf101(given['videos'], _annotation_folder(given))),
  'hmdb51': _videos(lambda given: list_hmdb51(given['videos'], _annotation_folder(given))),
  'folder': _videos(_folder, required=('videos',), optional=('lists', 'labels', 'name')),
}
