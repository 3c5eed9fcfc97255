"""The gallery: clips as the model saw them, and the answers of each run."""

import base64
import dataclasses
import pathlib
import re
import urllib.parse
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.study.report import sentences, study_file
from zsar_jax.study.report.foreign_text import isolated

# Media types by a file's first bytes, whatever its name says. No SVG, which can hold scripts.
_MEDIA_TYPES = {
  re.compile(rb'\xff\xd8\xff'): 'image/jpeg',
  re.compile(rb'\x89PNG\r\n\x1a\n'): 'image/png',
  re.compile(rb'RIFF....WEBP', re.DOTALL): 'image/webp',
}


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of a clip.

  Attributes:
    path: relative to the study's folder.
    alt: its text alternative.
    status: 'inside' the page, 'beside' it, 'left out' of it, or 'missing'.
    source: the path for the img or the link; empty if the picture is missing.
  """

  path: str
  alt: str
  status: str
  source: str


@dataclasses.dataclass(frozen=True)
class PaintedClip:
  """A clip under a recipe.

  Attributes:
    recipe: the recipe.
    not_counted: why the clip does not count under it; None if it counts.
    note: how many frames stay unpainted, if any.
    picture: its frames, if they were drawn.
    clip: the same as an animation, if the page plays it.
    answers: {run: [(class, probability)]}, the likeliest first; empty without an answer.
  """

  recipe: str
  not_counted: str | None
  note: str | None
  picture: Picture | None
  clip: Picture | None
  answers: dict[str, list[tuple[str, float]]]


def gallery(
  experiment: dict[str, Any], dataset: dict[str, Any], pictures: 'Pictures'
) -> list[tuple[dict[str, Any], list[PaintedClip]]] | None:
  """The clips of a data set, each under all recipes; None without clips."""
  painted = [(clip, painted_clips(experiment, clip, pictures)) for clip in dataset['gallery']]
  # Animations get the room that the still frames leave.
  return [
    (clip, [_with_animation(clip, part, pictures) for part in parts]) for clip, parts in painted
  ] or None


def _with_animation(
  clip: dict[str, Any], painted: PaintedClip, pictures: 'Pictures'
) -> PaintedClip:
  path = clip['clips'].get(painted.recipe)
  if not path or not painted.picture:
    return painted
  animation = pictures.animation(path, painted.picture.alt)
  return dataclasses.replace(painted, clip=animation)


def painted_clips(
  experiment: dict[str, Any], clip: dict[str, Any], pictures: 'Pictures'
) -> list[PaintedClip]:
  """A clip under the recipes for which study.json has something to show."""
  painted = []
  for recipe in experiment['recipes']:
    reason = sentences.not_counted(clip, recipe)
    path = clip['pictures'].get(recipe)
    answers = {
      run: clip['predictions'][run].get(recipe, [])
      for run in experiment['runs']
      if run in clip['predictions']
    }
    if not (reason or path or any(answers.values())):
      continue
    alt = f'Frames of {isolated(clip["clip"])} under {isolated(recipe)}'
    painted.append(
      PaintedClip(
        recipe=recipe,
        not_counted=reason,
        note=sentences.unpainted_frames(clip, recipe),
        picture=pictures.picture(path, alt) if path and not reason else None,
        clip=None,
        answers=answers,
      )
    )
  return painted


class Pictures:
  """The pictures of a study's folder.

  A page that contains all pictures may open slowly, so that pictures beyond a number of bytes
  are links.
  """

  def __init__(self, folder: pathlib.Path, budget: int, clips: str = 'stills'):
    """Takes the study's folder, and how many bytes of pictures the page may contain.

    Args:
      folder: the study's folder.
      budget: how many bytes of pictures the page may contain.
      clips: where animations are, as in the config of a study.
    """
    self._folder, self._budget, self._clips = folder.resolve(), budget, clips

  def animation(self, path: str, alt: str) -> Picture | None:
    """The animation at a path; None if the page does not play it.

    Raises:
      UserError: as `picture`.
    """
    if self._clips == 'stills':
      return None
    animation = self.picture(path, alt, beside=self._clips == 'beside')
    return animation if animation.status in ('inside', 'beside') else None

  def picture(self, path: str, alt: str, beside: bool = False) -> Picture:
    """The picture at a path, which is never inside the page if it is shown from `beside` it.

    Raises:
      UserError: if the path leaves the folder, or the file is not a picture.
    """
    file = study_file.inside(self._folder, path, 'the picture')
    if not file.is_file():
      return Picture(path, alt, 'missing', '')
    content = file.read_bytes()
    media_type = next((kind for start, kind in _MEDIA_TYPES.items() if start.match(content)), None)
    if media_type is None:
      raise UserError(f'{file}: is neither JPEG, PNG nor WebP; draw the gallery again')
    if beside:
      return Picture(path, alt, 'beside', urllib.parse.quote(path))
    if len(content) > self._budget:
      return Picture(path, alt, 'left out', urllib.parse.quote(path))
    self._budget -= len(content)
    data = base64.b64encode(content).decode('ascii')
    return Picture(path, alt, 'inside', f'data:{media_type};base64,{data}')
