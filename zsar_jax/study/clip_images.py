"""Clips as the models saw them under each recipe, for the report."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from zsar_jax.data.batch import PARTNER
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.pipeline import ClipLoader, View
from zsar_jax.data.subset import select
from zsar_jax.errors import UserError
from zsar_jax.evaluation.evaluator import COLOR_SEED
from zsar_jax.evaluation.metrics import class_ranks
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.ops.photometric import denormalize
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language

# Of a picture: frames at most, their side in pixels, and the JPEG's quality.
_FRAMES = 8
_SIDE = 96
_QUALITY = 80

# The likeliest classes that are kept of each clip.
_LIKELIEST = 3


@dataclasses.dataclass(frozen=True)
class Choice:
  """A clip for the gallery.

  Attributes:
    position: of the clip.
    why: it was chosen.
  """

  position: int
  why: str


def choose_clips(predictions: Mapping[str, Predictions], baseline: str, count: int) -> list[Choice]:
  """Chooses clips that show what masking does, by the predictions of each run.

  First come clips that the baseline names as they are and no longer when their background is
  painted; then clips that only other runs name; the rest are spread over the data set. Where a
  clip does not count under a recipe, nothing is concluded from its logits.
  """
  plain = predictions[baseline]
  right = {
    (run, recipe): (class_ranks(logits, one.labels) == 0) & one.counted(recipe)
    for run, one in predictions.items()
    for recipe, logits in one.logits.items()
  }
  groups = []
  painted = _background_recipe(plain.recipes)
  if painted and 'none' in plain.recipes:
    flips = right[baseline, 'none'] & ~right[baseline, painted] & plain.counted(painted)
    why = f'The run {baseline} is right on this clip as it is, and wrong under {painted}.'
    groups.append((flips, why))
  others = [run for run in predictions if run != baseline]
  if others and 'none' in plain.recipes:
    rescued = ~right[baseline, 'none'] & np.any([right[run, 'none'] for run in others], axis=0)
    why = f'The run {baseline} is wrong on this clip as it is, and another run is right.'
    groups.append((rescued, why))
  groups.append((np.ones(len(plain.ids), bool), 'Chosen at an even distance among all clips.'))

  chosen: dict[int, str] = {}
  for number, (group, why) in enumerate(groups):
    free = [n for n in np.flatnonzero(group).tolist() if n not in chosen]
    share = -(-(count - len(chosen)) // (len(groups) - number))
    places = np.linspace(0, len(free) - 1, min(share, len(free))).astype(int)
    chosen |= {free[place]: why for place in places}
  return [Choice(position, why) for position, why in chosen.items()]


def draw_clips(
  config: ConfigDict,
  dataset: str,
  predictions: Mapping[str, Predictions],
  choices: Sequence[Choice],
  folder: pathlib.Path,
  prefix: str,
) -> list[dict[str, Any]]:
  """Draws chosen clips under each recipe that they count under, with the answers of each run.

  Args:
    config: of the runs, which are evaluated alike.
    dataset: one of `config.eval.datasets`.
    predictions: of each run on it.
    choices: the clips.
    folder: of the study; pictures go to gallery/ in it.
    prefix: of the pictures' names.

  Returns:
    For each clip an object for study.json: clip, class, why, pictures by recipe, of each run the
    likeliest classes with their probability by recipe, by recipe why the clip does not count
    under it (there is no picture then), and how many of its frames a recipe leaves unpainted.
  """
  if not choices:
    return []
  reference = config.eval.datasets[dataset]
  opened = open_dataset(config.data.dir, reference.dataset, reference.split)
  field = f'config.eval.datasets.{dataset}.classes'
  subset = select(opened, reference.classes, config.view.unannotated, field)
  one = next(iter(predictions.values()))
  place = {subset.clip_id(n): n for n in range(len(subset))}
  if list(place) != list(one.ids):
    raise UserError(
      f'config.eval.datasets.{dataset}: its clips are others than those that the runs were'
      ' evaluated on; restore the data set, or delete the runs'
    )
  loader = ClipLoader(subset, View.from_config(config))
  rows = [loader.evaluation_clip(choice.position) for choice in choices]
  for row, choice in zip(rows, choices, strict=True):
    other = loader.evaluation_clip(place.get(one.partners[choice.position], len(subset)))
    row |= {f'{PARTNER}{name}': other[name] for name in ('frames', 'regions', 'annotated')}
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

  entries = [
    {
      'clip': one.ids[choice.position],
      'class': one.classes[one.labels[choice.position]],
      'why': choice.why,
      'pictures': {},
      'predictions': {
        run: _likeliest(found, choice.position) for run, found in predictions.items()
      },
      'not_counted': {
        recipe: reason
        for recipe in one.recipes
        if (reason := _not_counted(one, recipe, choice.position))
      },
      'frames': len(row['annotated']),
      'unpainted': {
        recipe: int(np.count_nonzero(~row['annotated']))
        for recipe in one.recipes
        if language.parse(recipe).regions and not row['annotated'].all()
      },
    }
    for choice, row in zip(choices, rows, strict=True)
  ]
  (folder / 'gallery').mkdir(parents=True, exist_ok=True)
  for number, recipe in enumerate(one.recipes):
    video = evaluation_input(jax.random.key(COLOR_SEED), batch, language.parse(recipe))
    pictures = np.asarray(denormalize(video))
    for row, (entry, pixels) in enumerate(zip(entries, pictures, strict=True)):
      if recipe in entry['not_counted']:
        continue
      name = f'gallery/{re.sub("[^a-zA-Z0-9]", "_", prefix)}-{row}-{number}.jpg'
      (folder / name).write_bytes(_strip(pixels))
      entry['pictures'][recipe] = name
  return entries


def _not_counted(predictions: Predictions, recipe: str, position: int) -> str | None:
  """Why a clip does not count under a recipe, see `Predictions.counted`; None where it counts."""
  if predictions.counted(recipe)[position]:
    return None
  return 'no partner' if predictions.has_masks(recipe)[position] else 'no masks'


def _background_recipe(texts: Sequence[str]) -> str | None:
  """The first recipe that paints the background, and nothing else, with a color."""
  for text in texts:
    recipe = language.parse(text)
    if (
      [part.region for part in recipe.parts] == ['background']
      and recipe.parts[0].fill not in language.SCENES
      and not recipe.effects
    ):
      return text
  return None


def _likeliest(predictions: Predictions, position: int) -> dict[str, list[list[Any]]]:
  """By recipe: [class, probability], the likeliest first."""
  likeliest = {}
  for recipe, logits in predictions.logits.items():
    row = logits[position].astype(np.float64)
    if np.isfinite(row).all():
      shares = np.exp(row - row.max())
      shares /= shares.sum()
      best = np.argsort(-shares, kind='stable')[:_LIKELIEST]
      likeliest[recipe] = [[predictions.classes[n], round(float(shares[n]), 4)] for n in best]
  return likeliest


def _strip(video: np.ndarray) -> bytes:
  """A JPEG of frames side by side, from f32[T, H, W, 3] in [0, 1]."""
  places = np.linspace(0, len(video) - 1, min(len(video), _FRAMES)).astype(int)
  frames = (255 * np.clip(video[places], 0, 1)).round().astype(np.uint8)
  frames = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
  # White lines between the frames: a painted background would melt them into one.
  frames = [np.pad(frame, ((0, 0), (0, 2), (0, 0)), constant_values=255) for frame in frames]
  image = cv2.cvtColor(np.concatenate(frames, axis=1)[:, :-2], cv2.COLOR_RGB2BGR)
  return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
