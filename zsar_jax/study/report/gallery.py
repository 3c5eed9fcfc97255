"""The gallery: clips as the model saw them, with what each run made of them."""

import base64
import pathlib
import urllib.parse
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.study.report import sentences, words
from zsar_jax.study.report.markup import Markup, breakable, element

# By the first bytes, so that a file's name cannot make it something else. No SVG: it is a program.
_KINDS = {b'\xff\xd8\xff': 'image/jpeg', b'\x89PNG\r\n\x1a\n': 'image/png'}

# Clips of a data set that stand open on the page.
_OPEN_CLIPS = 2


class Pictures:
  """The pictures of a study's folder, up to a number of bytes.

  A page with every picture inside must still open fast; what no longer fits is a link.
  """

  def __init__(self, folder: pathlib.Path, budget: int):
    """Takes the study's folder and how many bytes of pictures the page may hold."""
    self._folder, self._left = folder.resolve(), budget

  def draw(self, path: str, text: str) -> Markup:
    """The picture as an element, or a note if it is missing or no longer fits.

    Raises:
      UserError: if the path leaves the folder, or the file is no picture.
    """
    file = picture_file(self._folder, path)
    if not file.is_file():
      return element('p', f'The picture {path} is missing.', class_='note')
    content = file.read_bytes()
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
    if kind is None:
      raise UserError(f'{file}: is neither JPEG nor PNG; draw the gallery again')
    if len(content) > self._left:
      link = element('a', path, href=urllib.parse.quote(path))
      return element('p', 'Left out to keep this page small: ', link, class_='note')
    self._left -= len(content)
    data = base64.b64encode(content).decode('ascii')
    return element(
      'img', src=f'data:{kind};base64,{data}', alt=text, loading='lazy', decoding='async'
    )


def picture_file(folder: pathlib.Path, path: str) -> pathlib.Path:
  """The file of a picture.

  Args:
    folder: the study's folder, resolved.
    path: as study.json has it.

  Raises:
    UserError: if it is absolute or leaves the folder, also by a link.
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


def gallery(
  experiment: dict[str, Any], dataset: dict[str, Any], pictures: Pictures
) -> Markup | None:
  """Clips one below the other; those beyond the first ones are folded away."""
  clips = [_clip(experiment, clip, pictures, place < _OPEN_CLIPS)
           for place, clip in enumerate(dataset['gallery'])]  # fmt: skip
  return element('div', clips, class_='gallery') if clips else None


def _clip(
  experiment: dict[str, Any], clip: dict[str, Any], pictures: Pictures, shown: bool
) -> Markup:
  recipes = [
    recipe
    for recipe in experiment['recipes']
    if recipe in clip['pictures']
    or recipe in clip['not_counted']
    or any(recipe in row for row in clip['predictions'].values())
  ]
  return element(
    'details',
    element(
      'summary',
      element('bdi', clip['class'], class_='name'),
      ' ',
      element('bdi', clip['clip'], class_='id'),
      ' ',
      element('span', clip['why'], class_='why'),
    ),
    [_shown(experiment, clip, recipe, pictures) for recipe in recipes],
    class_='clip',
    open=shown,
  )


def _shown(
  experiment: dict[str, Any], clip: dict[str, Any], recipe: str, pictures: Pictures
) -> Markup:
  """A clip under a recipe: its frames and the answers, or why there are none."""
  heading = element('h5', element('bdi', breakable(recipe)))
  if reason := sentences.not_shown(clip, recipe):
    return element('div', heading, element('p', reason, class_='note'), class_='shown')
  path = clip['pictures'].get(recipe)
  alt = f'Frames of {words.isolated(clip["clip"])} under {words.isolated(recipe)}'
  note = sentences.unpainted(clip, recipe)
  return element(
    'div',
    heading,
    element(
      'div',
      pictures.draw(path, alt) if path else None,
      element('p', note, class_='note') if note else None,
    )
    if path or note
    else None,
    element('ul', [_prediction(clip, run, recipe) for run in experiment['runs']]),
    class_='shown',
  )


def _prediction(clip: dict[str, Any], run: str, recipe: str) -> Markup | None:
  """The answer of a run, with the next likeliest classes folded away."""
  if run not in clip['predictions']:
    return None
  ranked = clip['predictions'][run].get(recipe)
  if not ranked:
    answer = element('span', sentences.NO_ANSWER, class_='note')
    return element('li', element('bdi', breakable(run)), ' ', answer, class_='wrong')
  name, probability = ranked[0]
  right = name == clip['class']
  others = [
    element('li', element('bdi', other), f' {words.percent(share)}\u00a0%')
    for other, share in ranked[1:]
  ]
  answer = (
    element('bdi', breakable(run)),
    element('b', '\u2713' if right else '\u2717'),
    element('bdi', name),
    element('span', f'{words.percent(probability)}\u00a0%'),
  )
  return element(
    'li',
    element('details', element('summary', answer), element('ol', others, start=2))
    if others
    else element('div', answer, class_='summary'),
    class_='right' if right else 'wrong',
  )
