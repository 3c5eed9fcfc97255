"""Where the input gradient lies: bars of the regions, and a table."""

import dataclasses
from typing import Any

from zsar_jax.study.report import drawing as draw
from zsar_jax.study.report import number_format, tables
from zsar_jax.study.report.foreign_text import isolated

REGIONS = ('person', 'object', 'background')

# Where bars begin and end, and the height of a run's row, in pixels.
_BARS, _ROW = (106, 316), 40


@dataclasses.dataclass(frozen=True)
class GradientShares:
  """The shares of the input gradient on the regions.

  Attributes:
    drawing: a thick bar of the gradient and a thin bar of the pixels for each run.
    table: all numbers.
  """

  drawing: draw.Drawing
  table: tables.Table


def saliency(experiment: dict[str, Any], dataset: dict[str, Any]) -> GradientShares | None:
  """Returns the regions of the input gradient of each run; None if it was not computed."""
  by_run = {
    run: shares
    for run in experiment['runs']
    if (shares := dataset['saliency'].get(run))
    and any(shares[region]['value'] is not None for region in REGIONS)
  }
  if not by_run:
    return None
  marks: list[draw.Mark] = []
  # The legend.
  for number, region in enumerate(REGIONS):
    x = _BARS[0] + 62 * number
    marks += [draw.Rect(x, 2, 10, 8, f'part-{region}'), draw.Text(x + 14, 10, region)]
  texts = []
  for number, (run, shares) in enumerate(by_run.items()):
    top = 20 + _ROW * number
    gradient = {
      region: (shares[region]['value'], number_format.full_text(shares[region]))
      for region in REGIONS
      if shares[region]['value'] is not None
    }
    pixels = {
      region: (share, f'{number_format.percent(share)}\u00a0% of the pixels')
      for region in REGIONS
      if (share := shares['area'][region]) is not None
    }
    marks += draw.label(0, top + 14, run, _BARS[0] - 10)
    marks += [*_stacked(gradient, top, 20), *_stacked(pixels, top + 22, 7)]
    parts = ', '.join(f'{region} {text}' for region, (_, text) in gradient.items())
    texts.append(f'{isolated(run)}: {parts}')
  height = 20 + _ROW * len(by_run)
  text = f'Shares of the gradient on the regions. {"; ".join(texts)}'
  table = tables.Table(
    'Shares of the magnitude of the input gradient and of the pixels, %, with 95\u00a0% intervals',
    ['gradient, %', 'clips', 'pixels, %'],
    {
      run: [
        (
          region,
          [
            tables.Value(shares[region]),
            shares[region]['count'],
            number_format.percent(shares['area'][region]),
          ],
        )
        for region in REGIONS
      ]
      for run, shares in by_run.items()
    },
    'region',
  )
  return GradientShares(draw.Drawing(draw.COLUMN, height, text, marks), table)


def _stacked(shares: dict[str, tuple[float, str]], top: float, height: float) -> list[draw.Mark]:
  """A bar of parts side by side; high bars have the numbers of wide parts inside."""
  marks: list[draw.Mark] = []
  x, width = _BARS[0], _BARS[1] - _BARS[0]
  for region, (share, text) in shares.items():
    part: list[draw.Mark] = [draw.Rect(x, top, share * width, height, f'part-{region}')]
    if share >= 0.14 and height >= 16:
      look = 'on-person' if region == 'person' else 'on-part'
      middle = x + share * width / 2
      part.append(
        draw.Text(middle, top + height / 2 + 4, number_format.percent(share), look, 'middle')
      )
    marks.append(draw.Group(f'{region}: {text}', part))
    x += share * width
  return marks
