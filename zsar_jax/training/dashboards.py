"""What a run shows on Weights & Biases beside its metrics: its config, and its clips."""

import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from zsar_jax import config as config_lib
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import View
from zsar_jax.recipes import language
from zsar_jax.training.metric_writer import MetricWriter
from zsar_jax.training.wandb_run import WandbRun

# The number of clips on a contact sheet, and how they are shown; as `zsar show` does by default.
_CLIPS = 6
_VIEW = View(num_frames=4, size=112, centre_crop=1.0)


def open_wandb(
  config: ConfigDict,
  workdir: pathlib.Path,
  writer: MetricWriter,
  more: bool,
  training: Subset,
  evaluation: Mapping[str, Subset],
) -> WandbRun:
  """Starts the run on W&B; see `WandbRun`.

  Args:
    config: a validated config.
    workdir: the run's folder.
    writer: has the lines that W&B may lack.
    more: whether other values of the last line's step will follow.
    training: the training clips.
    evaluation: the clips of each of `config.eval.datasets`.
  """

  def draw() -> dict[str, Any]:
    pictures = {'training_clips': _contact_sheet(training, ('none', config.recipe))}
    for name, subset in evaluation.items():
      pictures[f'clips/{name}'] = _contact_sheet(subset, config.eval.recipes)
    return pictures

  return WandbRun(workdir, json.loads(config_lib.to_json(config)), writer.kept, more, draw)


def _contact_sheet(subset: Subset, recipes: Sequence[str]) -> Any:
  """Returns a picture of some clips as models see them under each recipe, a `wandb.Image`."""
  # Imported late, because runs that are not shown on W&B need no matplotlib.
  import PIL.Image
  import wandb

  from zsar_jax.evaluation.contact_sheets import Column, choose_clips, draw_contact_sheet

  parsed = [language.parse(text) for text in dict.fromkeys(recipes)]
  # The frames of a bank are not at hand.
  columns = [Column(str(recipe), recipe) for recipe in parsed if not recipe.effect('stillmix_bank')]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'clips.png'
    draw_contact_sheet(choose_clips([subset], _CLIPS), columns, _VIEW, path)
    with PIL.Image.open(path) as picture:
      return wandb.Image(picture.convert('RGB'))
