"""Pictures of clips under each recipe, as the models get them, for the report's gallery."""

import dataclasses
import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jax
import numpy as np
import PIL.Image
from ml_collections import ConfigDict

from zsar_jax.data.batch import BatchClip, as_partner
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.subset import open_subset
from zsar_jax.data.view import View
from zsar_jax.errors import UserError
from zsar_jax.evaluation import bias_metrics
from zsar_jax.evaluation.evaluator import COLOR_SEED
from zsar_jax.evaluation.metrics import class_ranks
from zsar_jax.evaluation.predictions import Predictions
from zsar_jax.ops.photometric import denormalize
from zsar_jax.ops.prepare import evaluation_input
from zsar_jax.recipes import language
from zsar_jax.storage.files import naming

# A picture's number of frames at most, their side in pixels, and the JPEG quality.
_MAX_FRAMES = 8
_SIDE = 96
_QUALITY = 80

# The side of a playing clip in pixels, the time that it shows each frame, and its WebP quality.
_CLIP_SIDE = 144
_FRAME_MILLISECONDS = 180
_CLIP_QUALITY = 60

# The number of most likely classes that are kept of each clip.
_TOP_CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Choice:
  """A clip for the gallery.

  Attributes:
    position: the position of the clip in the data set.
    why: the reason why it was chosen, a sentence.
  """

  position: int
  why: str


def choose_clips(predictions: Mapping[str, Predictions], baseline: str, count: int) -> list[Choice]:
  """Chooses clips that show the effect of masking.

  First come clips on which the baseline is correct unmasked and wrong when their background is
  painted; then clips on which only other runs are correct; the rest are evenly spaced over the data
  set. Logits of a clip that does not count under a recipe are ignored.

  Args:
    predictions: the predictions of each run.
    baseline: one of the runs.
    count: the number of clips.
  """
  reference = predictions[baseline]
  correct = {
    (run, recipe): (class_ranks(logits, of_run.labels) == 0) & of_run.counted(recipe)
    for run, of_run in predictions.items()
    for recipe, logits in of_run.logits.items()
  }
  groups = []
  painted = bias_metrics.background_recipe(reference.recipes)
  if painted and 'none' in reference.recipes:
    flips = correct[baseline, 'none'] & ~correct[baseline, painted] & reference.counted(painted)
    why = f'The run {baseline} is right on this clip as it is, and wrong under {painted}.'
    groups.append((flips, why))
  others = [run for run in predictions if run != baseline]
  if others and 'none' in reference.recipes:
    any_other = np.any([correct[run, 'none'] for run in others], axis=0)
    why = f'The run {baseline} is wrong on this clip as it is, and another run is right.'
    groups.append((~correct[baseline, 'none'] & any_other, why))
  everything = np.ones(len(reference.ids), bool)
  groups.append((everything, 'Chosen at an even distance among all clips.'))

  chosen: dict[int, str] = {}
  for number, (group, why) in enumerate(groups):
    remaining = [position for position in np.flatnonzero(group).tolist() if position not in chosen]
    share = -(-(count - len(chosen)) // (len(groups) - number))
    spaced = np.linspace(0, len(remaining) - 1, min(share, len(remaining))).astype(int)
    chosen |= {remaining[n]: why for n in spaced}
  return [Choice(position, why) for position, why in chosen.items()]


def draw_clips(
  config: ConfigDict,
  dataset: str,
  predictions: Mapping[str, Predictions],
  choices: Sequence[Choice],
  folder: pathlib.Path,
  prefix: str,
  animate: bool = True,
) -> list[dict[str, Any]]:
  """Draws the chosen clips under each recipe that they count under.

  Args:
    config: the config of any run; all runs are evaluated in the same way.
    dataset: one of `config.eval.datasets`.
    predictions: the predictions of each run on the data set.
    choices: the clips.
    folder: the folder of the study; the pictures are written to its gallery/.
    prefix: the prefix of the pictures' names.
    animate: whether clips are also written as animations.

  Returns:
    For each clip an object for study.json with clip, class and why; the pictures and animations by
    recipe; for each run the most likely classes with their probabilities by recipe; for each recipe
    under which the clip does not count, and has no picture, the reason; the number of frames, and
    how many of them each recipe leaves unpainted.
  """
  if not choices:
    return []
  reference = next(iter(predictions.values()))
  rows = _load_rows(config, dataset, reference, choices)
  entries = [
    {
      'clip': reference.ids[choice.position],
      'class': reference.classes[reference.labels[choice.position]],
      'why': choice.why,
      'pictures': {},
      'clips': {},
      'predictions': {
        run: _top_classes(of_run, choice.position) for run, of_run in predictions.items()
      },
      'not_counted': {
        recipe: reason
        for recipe in reference.recipes
        if (reason := _not_counted(reference, recipe, choice.position))
      },
      'frames': len(row['annotated']),
      'unpainted': {
        recipe: int(np.count_nonzero(~row['annotated']))
        for recipe in reference.recipes
        if language.parse(recipe).regions and not row['annotated'].all()
      },
    }
    for choice, row in zip(choices, rows, strict=True)
  ]
  (folder / 'gallery').mkdir(parents=True, exist_ok=True)
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
  for number, recipe in enumerate(reference.recipes):
    video = evaluation_input(jax.random.key(COLOR_SEED), batch, language.parse(recipe))
    pictures = np.asarray(denormalize(video))
    for row, (entry, pixels) in enumerate(zip(entries, pictures, strict=True)):
      if recipe in entry['not_counted']:
        continue
      name = f'gallery/{re.sub("[^a-zA-Z0-9]", "_", prefix)}-{row}-{number}'
      _write(folder / f'{name}.jpg', _encode_strip(pixels))
      entry['pictures'][recipe] = f'{name}.jpg'
      if animate:
        _write(folder / f'{name}.webp', _encode_animation(pixels))
        entry['clips'][recipe] = f'{name}.webp'
  return entries


def _write(path: pathlib.Path, content: bytes) -> None:
  with naming(path):
    path.write_bytes(content)


def _load_rows(
  config: ConfigDict, dataset: str, reference: Predictions, choices: Sequence[Choice]
) -> list[BatchClip]:
  """Loads the chosen clips and their partners as rows of a batch.

  Raises:
    UserError: the data set has other clips than `reference`.
  """
  field = f'config.eval.datasets.{dataset}'
  reference_to_clips = config.eval.datasets[dataset]
  subset = open_subset(config.data.dir, reference_to_clips, config.view.unannotated, field)
  positions = {subset.clip_id(position): position for position in range(len(subset))}
  if list(positions) != list(reference.ids):
    raise UserError(
      f'{field}: its clips differ from those that the runs were evaluated on; restore the data set,'
      ' or delete the runs'
    )
  inpainted = any(subset.shows_inpainted(language.parse(text)) for text in reference.recipes)
  loader = ClipLoader(subset, View.from_config(config), inpainted=inpainted)
  rows = []
  for choice in choices:
    row = loader.evaluation_clip(choice.position)
    # A position beyond the last clip loads padding.
    partner = positions.get(reference.partners[choice.position], len(subset))
    partner_row = loader.evaluation_clip(partner)
    rows.append(row | as_partner(partner_row))
  return rows


def _not_counted(predictions: Predictions, recipe: str, position: int) -> str | None:
  """Returns why a clip does not count under a recipe (`Predictions.counted`); None if it counts."""
  if predictions.counted(recipe)[position]:
    return None
  return 'no partner' if predictions.has_masks(recipe)[position] else 'no masks'


def _top_classes(predictions: Predictions, position: int) -> dict[str, list[list[Any]]]:
  """[class, probability] by recipe, the most likely first."""
  by_recipe = {}
  for recipe, logits in predictions.logits.items():
    row = logits[position].astype(np.float64)
    if np.isfinite(row).all():
      probabilities = np.exp(row - row.max())
      probabilities /= probabilities.sum()
      best = np.argsort(-probabilities, kind='stable')[:_TOP_CLASSES]
      by_recipe[recipe] = [
        [predictions.classes[label], round(float(probabilities[label]), 4)] for label in best
      ]
  return by_recipe


def _encode_strip(video: np.ndarray) -> bytes:
  """Encodes frames side by side as a JPEG.

  Args:
    video: f32[T, H, W, 3] in [0, 1].
  """
  sampled = np.linspace(0, len(video) - 1, min(len(video), _MAX_FRAMES)).astype(int)
  frames = (255 * np.clip(video[sampled], 0, 1)).round().astype(np.uint8)
  frames = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
  # White lines separate the frames, which a painted background would join.
  frames = [np.pad(frame, ((0, 0), (0, 2), (0, 0)), constant_values=255) for frame in frames]
  image = cv2.cvtColor(np.concatenate(frames, axis=1)[:, :-2], cv2.COLOR_RGB2BGR)
  return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _encode_animation(video: np.ndarray) -> bytes:
  """Encodes all frames as a WebP animation that repeats.

  Args:
    video: f32[T, H, W, 3] in [0, 1].
  """
  frames = (255 * np.clip(video, 0, 1)).round().astype(np.uint8)
  side = (_CLIP_SIDE, _CLIP_SIDE)
  first, *others = (
    PIL.Image.fromarray(cv2.resize(frame, side, interpolation=cv2.INTER_AREA)) for frame in frames
  )
  file = io.BytesIO()
  first.save(
    file,
    'WEBP',
    save_all=True,
    append_images=others,
    duration=_FRAME_MILLISECONDS,
    loop=0,
    quality=_CLIP_QUALITY,
  )
  return file.getvalue()
