"""Draws a clip with the scores of its classes."""

import pathlib
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from zsar_jax.runtime.fonts import fonts_for
from zsar_jax.runtime.terminal import escape_control_chars
from zsar_jax.storage.files import open_atomically


def draw_scores(frames: np.ndarray, ranked: Sequence[tuple[str, float]], out: pathlib.Path) -> None:
  """Writes a picture of a clip's frames above a bar chart of its scores.

  Args:
    frames: u8[T, S, S, 3].
    ranked: (class, score from 0 to 1), the highest score first.
    out: the PNG to write.
  """
  matplotlib.use('Agg')
  strips = [
    np.concatenate(list(frames[start : start + 8]), axis=1) for start in range(0, len(frames), 8)
  ]
  strips[-1] = np.pad(
    strips[-1],
    ((0, 0), (0, strips[0].shape[1] - strips[-1].shape[1]), (0, 0)),
    constant_values=255,
  )
  sheet = np.concatenate(strips)
  height = 10 * sheet.shape[0] / sheet.shape[1]
  names, values = zip(*ranked[::-1], strict=True)
  names = [escape_control_chars(name) for name in names]
  with fonts_for(names, str(out)):
    figure, (above, below) = plt.subplots(
      2,
      1,
      figsize=(10, height + 0.35 * len(ranked) + 0.5),
      height_ratios=(height, 0.35 * len(ranked) + 0.2),
      layout='constrained',
    )
    above.imshow(sheet)
    above.set_axis_off()
    bars = below.barh(range(len(names)), [100 * value for value in values], color='#377eb8')
    below.set_yticks(range(len(names)), names, parse_math=False)
    below.bar_label(bars, fmt='%.1f %%', padding=3)
    below.set_xlim(0, 110)
    below.spines[['top', 'right', 'bottom']].set_visible(False)
    below.set_xticks([])
    with open_atomically(out) as file:
      figure.savefig(file, format='png', dpi=110)
  plt.close(figure)
