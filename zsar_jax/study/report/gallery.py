"""The gallery: clips as the model saw them, and the answers of each run."""

import base64
import dataclasses
import pathlib
import urllib.parse
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.study.report import sentences
from zsar_jax.study.report.foreign_text import isolated

# Media types by a file's first bytes, whatever its name says. No SVG, which can hold scripts.
_MEDIA_TYPES = {b'\xff\xd8\xff': 'image/jpeg', b'\x89PNG\r\n\x1a\n': 'image/png'}


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of a clip.

  Attributes:
    path: relative to the study's folder.
    alt: its text alternative.
    status: 'inside' the page, 'left out' of it, or 'missing'.
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
    answers: {run: [(class, probability)]}, the likeliest first; empty without an answer.
  """

  recipe: str
  not_counted: str | None
  note: str | None
  picture: Picture | None
  answers: dict[str, list[tuple[str, float]]]


def gallery(
  experiment: dict[str, Any], dataset: dict[str, Any], pictures: 'Pictures'
) -> list[tuple[dict[str, Any], list[PaintedClip]]] | None:
  """The clips of a data set, each under all recipes; None without clips."""
  return [(clip, painted_clips(experiment, clip, pictures)) for clip in dataset['gallery']] or None


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
        answers=answers,
      )
    )
  return painted


class Pictures:
  """The pictures of a study's folder.

  A page that contains all pictures may open slowly, so that pictures beyond a number of bytes
  are links.
  """

  def __init__(self, folder: pathlib.Path, budget: int):
    """Takes the study's folder, and how many bytes of pictures the page may contain."""
    self._folder, self._budget = folder.resolve(), budget

  def picture(self, path: str, alt: str) -> Picture:
    """The picture at a path.

    Raises:
      UserError: if the path leaves the folder, or the file is not a picture.
    """
    file = picture_file(self._folder, path)
    if not file.is_file():
      return Picture(path, alt, 'missing', '')
    content = file.read_bytes()
    media_type = next(
      (kind for start, kind in _MEDIA_TYPES.items() if content.startswith(start)), None
    )
    if media_type is None:
      raise UserError(f'{file}: is neither JPEG nor PNG; draw the gallery again')
    if len(content) > self._budget:
      return Picture(path, alt, 'left out', urllib.parse.quote(path))
    self._budget -= len(content)
    data = base64.b64encode(content).decode('ascii')
    return Picture(path, alt, 'inside', f'data:{media_type};base64,{data}')


def picture_file(folder: pathlib.Path, path: str) -> pathlib.Path:
  """The file of a picture.

  Args:
    folder: the study's folder, resolved.
    path: the path, as in study.json.

  Raises:
    UserError: if the path is absolute or leaves the folder, also by a link.
  """
  outside = UserError(
    f'{folder / "study.json"}: the picture {path!r} of the gallery lies outside the folder of the'
    ' study; give a path relative to it'
  )
  if pathlib.PurePosixPath(path).is_absolute() or pathlib.PureWindowsPath(path).drive:
    raise outside
  try:
    file = (folder / path).resolve()
  except (ValueError, OSError, RuntimeError):
    raise outside from None
  if not file.is_relative_to(folder):
    raise outside
  return file
