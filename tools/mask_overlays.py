"""Draws where masks agree with masks that are trusted, and where they miss or add an area."""

import pathlib
import textwrap
from collections.abc import Sequence

import cv2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from zsar_jax.data import records
from zsar_jax.datasets.mask_comparison import ComparisonTask, iterate_planes
from zsar_jax.recipes.regions import REGION_BITS
from zsar_jax.runtime.fonts import fonts_for
from zsar_jax.runtime.terminal import escape_control_chars
from zsar_jax.storage.files import open_atomically

# Colors that people with any color vision can tell apart.
COLORS = {'agreement': '#377eb8', 'missed': '#e41a1c', 'added': '#ffd92f'}

# The share of the color in a pixel of an area; the rest is the frame, in gray.
_OPACITY = 0.6

# The height of a drawn frame in pixels.
_HEIGHT = 160


def overlay(frame: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """Colors the areas of a frame by whether the mask has them, the reference, or both.

  Args:
    frame: u8[H, W, 3], RGB.
    mask: bool[H, W], the mask that is measured.
    reference: bool[H, W], the mask that is trusted.

  Returns:
    u8[H, W, 3].
  """
  grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
  picture = np.repeat(grey[..., None], 3, axis=2)
  areas = (mask & reference, reference & ~mask, mask & ~reference)
  for color, area in zip(COLORS.values(), areas, strict=True):
    red_green_blue = np.frombuffer(bytes.fromhex(color[1:]), np.uint8)
    picture[area] = (1 - _OPACITY) * picture[area] + _OPACITY * red_green_blue
  return np.round(picture).astype(np.uint8)


def read_overlays(task: ComparisonTask, region: str, numbers: Sequence[int]) -> list[np.ndarray]:
  """Returns the overlays of a region in some frames of a clip, in the order of `numbers`."""
  bit, overlays = REGION_BITS[region], {}
  for number, jpeg, mask, reference in iterate_planes(task):
    if number in numbers and mask is not None and reference is not None:
      picture = overlay(records.decode_frame(jpeg), mask & bit > 0, reference & bit > 0)
      picture = picture[_window((mask | reference) & bit > 0)]
      height, width = picture.shape[:2]
      size = (max(1, round(width * _HEIGHT / height)), _HEIGHT)
      overlays[number] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
  return [overlays[number] for number in numbers]


def _window(area: np.ndarray) -> tuple[slice, slice]:
  """Returns the part of a frame around an area bool[H, W], with the aspect ratio of the frame."""
  left, top, width, height = cv2.boundingRect(area.astype(np.uint8))
  # Twice the size of the area: a small one would hardly be seen, and its surroundings explain it.
  share = min(1.0, 2 * max(height / area.shape[0], width / area.shape[1]))
  slices = []
  for length, start, extent in zip(area.shape, (top, left), (height, width), strict=True):
    size = max(1, round(share * length))
    first = min(max(0, start + (extent - size) // 2), length - size)
    slices.append(slice(first, first + size))
  return slices[0], slices[1]


def draw_overlays(rows: Sequence[tuple[str, Sequence[np.ndarray]]], out: pathlib.Path) -> None:
  """Writes a picture with a row of overlays for each caption.

  Args:
    rows: (caption, overlays of the same height, at least one).
    out: the PNG to write.
  """
  matplotlib.use('Agg')
  captions = [textwrap.shorten(escape_control_chars(caption), 160) for caption, _ in rows]
  strips = [
    np.concatenate(
      [np.pad(part, ((0, 0), (0, 2), (0, 0)), constant_values=255) for part in overlays], axis=1
    )
    for _, overlays in rows
  ]
  width = max(8.0, max(strip.shape[1] for strip in strips) / 100)
  row_height = _HEIGHT / 100 + 0.25
  with fonts_for([*captions, *COLORS], str(out)):
    figure = plt.figure(figsize=(width, row_height * len(rows) + 0.35))
    figure_height = figure.get_figheight()
    for number, (caption, strip) in enumerate(zip(captions, strips, strict=True)):
      top = figure_height - 0.35 - row_height * number
      axis = figure.add_axes((
        0.05 / width,
        (top - _HEIGHT / 100) / figure_height,
        strip.shape[1] / 100 / width,
        _HEIGHT / 100 / figure_height,
      ))  # fmt: skip
      axis.imshow(strip)
      axis.set_axis_off()
      axis.text(0, -0.03, caption, fontsize=7, va='top', transform=axis.transAxes, parse_math=False)
    figure.legend(
      handles=[plt.Rectangle((0, 0), 1, 1, color=color) for color in COLORS.values()],
      labels=['agreement', 'missed: only in the reference', 'added: only in the masks'],
      loc='upper left',
      ncols=3,
      fontsize=8,
      frameon=False,
    )
    with open_atomically(out) as file:
      figure.savefig(file, format='png', dpi=110)
  plt.close(figure)
