"""Draws contact sheets: clips under mask recipes, as models see them."""

import dataclasses
import pathlib
import textwrap
from collections.abc import Sequence

import cv2
import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine

from zsar_jax.data.batch import as_partner
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.sampling import segment_indices
from zsar_jax.data.subset import Subset
from zsar_jax.data.view import View
from zsar_jax.evaluation.evaluator import COLOR_SEED
from zsar_jax.ops.prepare import evaluation_order, painted_frames
from zsar_jax.recipes.language import Recipe
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.fonts import fonts_for
from zsar_jax.runtime.terminal import escape_control_chars
from zsar_jax.storage.files import open_atomically

# The colors of regions, with lighter ones for boxes. Boxes are drawn first.
COLORS = {
  'person_box': '#fb9a99',
  'object_box': '#a6cee3',
  'person': '#e41a1c',
  'object': '#377eb8',
}
_NOT_ANNOTATED = '#ff9900'


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of a contact sheet.

  Attributes:
    title: the text above it.
    recipe: the mask recipe.
    outline: whether the regions are outlined.
  """

  title: str
  recipe: Recipe
  outline: bool = False


def choose_clips(subsets: list[Subset], count: int) -> list[tuple[Subset, int]]:
  """Chooses up to `count` clips, spread over the subsets and over their classes.

  Returns:
    (subset, position in it) for each clip.
  """
  rows = []
  for i, subset in enumerate(subsets):
    share = min(len(subset), count // len(subsets) + (i < count % len(subsets)))
    by_class = np.argsort(subset.labels, kind='stable')
    # Each subset begins with another class, because several may share a vocabulary.
    ranks = (np.arange(share) + (i + 0.5) / len(subsets)) * len(subset) / max(share, 1)
    rows += [(subset, int(position)) for position in by_class[ranks.astype(int)]]
  return rows


def draw_contact_sheet(
  rows: list[tuple[Subset, int]],
  columns: Sequence[Column],
  view: View,
  out: pathlib.Path,
  notes: Sequence[str] = (),
) -> None:
  """Writes a contact sheet: a row for each clip, with its frames under each recipe.

  Frames that are not annotated have a dashed edge. They are painted with the regions of the nearest
  annotated frame.

  Args:
    rows: (subset, position in it) for each clip.
    columns: the columns.
    view: the frames and the crop to show.
    out: the PNG to write.
    notes: a line of text for each clip, below its caption.
  """
  matplotlib.use('Agg')
  pictures, orders = _render_columns(rows, columns, view)
  # The batch's own `annotated` includes frames that borrow the plane of another.
  all_annotated = [subset.frames(position).annotated for subset, position in rows]
  annotated = [frames[segment_indices(len(frames), view.num_frames)] for frames in all_annotated]
  captions = [
    textwrap.shorten(_caption(*row, frames), 70)
    for row, frames in zip(rows, all_annotated, strict=True)
  ]
  if notes:
    captions = [f'{caption}\n{note}' for caption, note in zip(captions, notes, strict=True)]
  legend = '' if all(map(all, annotated)) else 'dashed edge: a frame that is not annotated'

  # In inches; a row has its strip of frames and one or two lines of text below it.
  strip = 0.9 * view.num_frames
  text_height = 0.4 if notes else 0.25
  with fonts_for([*captions, *(column.title for column in columns), legend], str(out)):
    figure, axes = plt.subplots(
      len(rows),
      len(columns),
      squeeze=False,
      figsize=(
        (strip + 0.1) * len(columns),
        (strip / view.num_frames + text_height) * len(rows) + 0.3,
      ),
      layout='constrained',
    )
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0)
    for row, caption in enumerate(captions):
      for n in range(len(columns)):
        _draw_strip(axes[row, n], pictures[n][row], annotated[row][orders[n][row]])
      axis = axes[row, 0]
      axis.text(0, -0.03, caption, fontsize=7, va='top', transform=axis.transAxes, parse_math=False)
    for axis, column in zip(axes[0], columns, strict=True):
      axis.set_title(column.title, fontsize=9, fontweight='bold')
    if legend:
      figure.supxlabel(legend, fontsize=7, color=_NOT_ANNOTATED)
    with open_atomically(out) as file:
      figure.savefig(file, format='png', dpi=110)
  plt.close(figure)


def _render_columns(
  rows: list[tuple[Subset, int]], columns: Sequence[Column], view: View
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Paints the clips under each recipe.

  Returns:
    For each column u8[N, T, S, S, 3], the frames, and i32[N, T], which frame of the clip each is.
  """
  # Any clip may be the partner of another one, also of one from another data set.
  inpainted = all(
    any(subset.shows_inpainted(column.recipe) for column in columns) for subset, _ in rows
  )
  clips = [
    ClipLoader(subset, view, inpainted=inpainted).evaluation_clip(position)
    for subset, position in rows
  ]
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *clips)
  batch |= as_partner({name: np.roll(array, 1, axis=0) for name, array in batch.items()})
  key = jax.random.key(COLOR_SEED)
  pictures, orders = [], []
  for column in columns:
    order = np.asarray(evaluation_order(key, batch, column.recipe))
    video = np.array(painted_frames(key, batch, column.recipe))
    if column.outline:
      outline_regions(video, np.take_along_axis(batch['regions'], order[..., None, None], axis=1))
    pictures.append(video)
    orders.append(order)
  return pictures, orders


def _caption(subset: Subset, position: int, annotated: np.ndarray) -> str:
  text = f'{subset.classes[subset.labels[position]]}  ({subset.clip_id(position)})'
  return escape_control_chars(text if annotated.any() else f'{text}, not annotated')


def outline_regions(video: np.ndarray, regions: np.ndarray) -> None:
  """Draws the edges of regions into frames.

  Args:
    video: u8[..., H, W, 3], changed in place.
    regions: u8[..., H, W], region planes.
  """
  for frame, plane in zip(
    video.reshape(-1, *video.shape[-3:]), regions.reshape(-1, *regions.shape[-2:]), strict=True
  ):
    for region, color in COLORS.items():
      area = (plane & REGION_BITS[region] > 0).astype(np.uint8)
      edges, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
      red_green_blue = tuple(bytes.fromhex(color[1:]))
      cv2.drawContours(frame, edges, -1, red_green_blue, thickness=1)


def _draw_strip(axis: plt.Axes, frames: np.ndarray, annotated: np.ndarray) -> None:
  """Draws frames u8[T, S, S, 3] side by side, with a dashed edge if not annotated (bool[T])."""
  size = frames.shape[1]
  # White lines separate the frames, which would merge if their backgrounds are painted.
  frames = np.pad(frames, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
  axis.imshow(np.concatenate(list(frames), axis=1))  # [S, T * (S + 2), 3]
  axis.set_axis_off()
  for number in np.flatnonzero(~annotated):
    corner = number * (size + 2) + 1, 1
    axis.add_patch(
      plt.Rectangle(
        corner, size - 3, size - 3, fill=False, edgecolor=_NOT_ANNOTATED, linestyle='--'
      )
    )
