"""The sections of the page with results. Each is made for one data set, or is None without data."""

from typing import Any

from zsar_jax.bias.report import charts, heatmap, plots, scales, words
from zsar_jax.bias.report import study as studies
from zsar_jax.bias.report.markup import Markup, breakable, element, join

# Classes of a run that stand open on the page, half of them the best, half the worst.
_OPEN_CLASSES = 20

# Classes that are drawn on a page in all, so that it opens fast: each list has its share.
_DRAWN_CLASSES = 8000


def matrix(experiment: dict[str, Any], dataset: dict[str, Any], key: str) -> Markup | None:
  """The heat maps; which accuracy is shown is chosen by radio buttons, without a script."""
  present = [
    metric
    for metric in words.ACCURACIES
    if any(
      studies.matrix_cell(dataset, run, recipe, metric)['value'] is not None
      for run in experiment['runs']
      for recipe in experiment['recipes']
    )
  ]
  if not present:
    return None
  switch = []
  for metric in present if len(present) > 1 else ():
    name = f'{key}-{metric}'
    switch.append(
      element('input', type='radio', name=key, id=name, class_=metric, checked=metric == present[0])
    )
    switch.append(element('label', words.ACCURACIES[metric], for_=name))
  maps = [
    element('div', heatmap.heat_map(experiment, dataset, metric), class_=f'panel {metric}')
    for metric in present
  ]
  if dataset['difference']:
    maps.append(heatmap.difference_map(experiment, dataset))
  return element('div', switch, element('div', maps, class_='maps'), class_='switch')


def bias(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  """Bars of the rates, and a table of the gaps."""
  cards = [_rate(experiment, dataset, name, metric) for name, metric in words.RATES.items()]
  gaps = _gaps(experiment, dataset)
  if not any(cards) and not gaps:
    return None
  return join(element('div', cards, class_='charts') if any(cards) else None, gaps)


def _better(metric: words.Metric) -> Markup:
  arrow = '\u2193' if metric.better == 'lower' else '\u2191'
  return element('span', f'{arrow} {metric.better} is better', class_='better')


def _rate(experiment: dict[str, Any], dataset: dict[str, Any], name: str, metric) -> Markup | None:
  found = {
    run: dataset['bias'][run][name]
    for run in experiment['runs']
    if name in dataset['bias'].get(run, {})
  }
  if not found:
    return None
  ends = [estimate[end] for estimate in found.values() for end in ('value', 'high')]
  axis = scales.axis([1.0, *ends], ticks=4)
  return _card(
    [metric.title, ' ', _better(metric)],
    metric.meaning,
    _bars(experiment, found, axis),
  )


def _card(title, meaning: str | None, *content) -> Markup:
  return element(
    'figure',
    element('figcaption', element('strong', title), element('p', meaning) if meaning else None),
    content,
    class_='chart',
  )


def _bars(experiment, estimates: dict[str, studies.Estimate], axis: scales.Axis) -> Markup:
  """A row for each run: name, bar, number."""
  rows = []
  for run, estimate in estimates.items():
    kind = 'base' if run == experiment['baseline'] else 'run'
    text = f'{words.isolated(run)}: {words.told(estimate)}'
    rows += [
      element('bdi', breakable(run), class_='label'),
      charts.bar(axis, estimate, text, kind),
      _number(estimate),
    ]
  return element(
    'div', rows, element('span'), charts.scale_row(axis), element('span', '%'), class_='bars'
  )


def _number(estimate: studies.Estimate) -> Markup:
  missing = estimate['value'] is None
  return element(
    'span',
    words.percent(estimate['value']),
    class_='value',
    title=words.WHY_MISSING if missing else None,
  )


def _gaps(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  present = {
    name: metric
    for name, metric in words.GAPS.items()
    if any(name in found for found in dataset['bias'].values())
  }
  if not present:
    return None
  head = [
    element('th', metric.title, ' ', _better(metric), element('small', metric.meaning), scope='col')
    for metric in present.values()
  ]
  rows = []
  for run in experiment['runs']:
    cells = []
    for name in present:
      estimate = dataset['bias'].get(run, {}).get(name)
      value = None if estimate is None else estimate['value']
      between = '' if value is None else words.interval(estimate, words.plain)
      tip = words.WHY_MISSING if value is None else words.told(estimate, words.plain, '')
      cells.append(
        element(
          'td', words.plain(value), element('small', f' {between}') if between else None, title=tip
        )
      )
    rows.append(element('tr', heatmap.run_heading(experiment, run), cells))
  table = element(
    'table',
    element('caption', 'Gaps over swapped backgrounds, 95\u00a0% interval'),
    element('thead', element('tr', element('th', 'run', scope='col'), head)),
    element('tbody', rows),
    class_='plain',
  )
  return element('div', table, class_='scroll', tabindex='0')


def classes(experiment: dict[str, Any], dataset: dict[str, Any], lists: int = 1) -> Markup | None:
  """Each class's gain over the baseline run, a list for each run.

  Args:
    experiment, dataset: whose.
    lists: how many lists the page has in all.
  """
  found = {run: entries for run, entries in dataset['classes_gain'].items() if entries}
  if not found:
    return None
  everything = [entry['gain'] for entries in found.values() for entry in entries]
  ends = [gain[end] for gain in everything for end in ('low', 'value', 'high')]
  axis = scales.axis(ends, ticks=8, least=0.1)
  cards = []
  for run in experiment['runs']:
    if run in found:
      entries = sorted(found[run], key=_gain_key, reverse=True)
      better = sum((entry['gain']['value'] or 0.0) > 0 for entry in entries)
      text = f'{better} of {words.counted(len(entries), "class", "classes")} gain; points'
      content = _gain_lists(entries, axis, max(_OPEN_CLASSES, _DRAWN_CLASSES // lists))
      cards.append(_card(element('bdi', run), text, content))
  return element('div', cards, class_='charts')


def _gain_lists(entries: list[dict[str, Any]], axis: scales.Axis, most: int) -> list[Markup]:
  """The best and the worst classes, those in between folded away; `most` in all."""
  half = _OPEN_CLASSES // 2
  if len(entries) <= _OPEN_CLASSES:
    return [plots.gains(entries, axis, 'gains, largest first')]
  between = entries[half:-half]
  summary, note = f'{words.counted(len(between), "class", "classes")} in between', None
  left_out = len(entries) - most
  if left_out > 0:
    side = (len(between) - left_out) // 2
    between = between[:side] + between[len(between) - side :]
    note = element(
      'p', f'The middle {words.counted(left_out, "class", "classes")} are only in study.json.',
      class_='note',
    )  # fmt: skip
  return [
    plots.gains(entries[:half], axis, f'the {half} largest gains'),
    element(
      'details',
      element('summary', summary),
      plots.gains(between, axis, 'the classes in between') if between else None,
      note,
    ),
    plots.gains(entries[-half:], axis, f'the {half} smallest gains or largest losses'),
  ]


def _gain_key(entry: dict[str, Any]) -> tuple[bool, float]:
  value = entry['gain']['value']
  return (value is not None, value or 0.0)


def strata(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  """Top-1 of the clips with and without an attribute."""
  groups = {
    (attribute, value): None
    for found in dataset['strata'].values()
    for attribute, values in found.items()
    for value in values
  }
  cards = []
  for attribute, value in groups:
    estimates = {
      run: dataset['strata'][run][attribute][value]
      for run in experiment['runs']
      if value in dataset['strata'].get(run, {}).get(attribute, {})
    }
    ends = [e['high'] for e in estimates.values()]
    axis = scales.axis([1.0, *ends])
    counts = {estimate['count'] for estimate in estimates.values()} - {None}
    meaning = words.counted(max(counts), 'clip') if counts else None
    title = [element('bdi', attribute), ': ', element('bdi', value)]
    cards.append(_card(title, meaning, _bars(experiment, estimates, axis)))
  return element('div', cards, class_='charts') if cards else None


def coverage(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  """Top-1 by the people's share of the frame, on clips as they are and over swapped backgrounds."""
  parts = [
    part
    for field, what in (
      ('coverage', 'Top-1, %, unpainted clips'),
      ('coverage_swapped', "SHAcc, %: top-1 over another clip's background"),
    )
    if (part := _coverage_plots(experiment, dataset[field], what))
  ]
  return join(*parts) if parts else None


def _coverage_plots(
  experiment: dict[str, Any], by_run: dict[str, list[dict[str, Any]]], what: str
) -> Markup | None:
  """A plot for each run, the baseline behind it."""
  found = {run: bins for run, bins in by_run.items() if bins}
  if not found:
    return None
  ends = [b['top1'][end] for bins in found.values() for b in bins for end in ('value', 'high')]
  up = scales.axis(ends, ticks=4, least=0.1)
  across = scales.axis([b['high'] for bins in found.values() for b in bins], ticks=5)
  base = experiment['baseline']
  cards = []
  for run in experiment['runs']:
    if run not in found:
      continue
    drawn = [_coverage_line(base, found[base], 'base')] if base in found and run != base else []
    drawn.append(_coverage_line(run, found[run], 'base' if run == base else 'run'))
    plot = plots.lines(
      drawn,
      across,
      up,
      ("people's share of the frame, %", 'top-1, %'),
      f"{what}, by the people's share of the frame, {words.isolated(run)}",
      words.whole_percent,
      words.whole_percent,
    )
    cards.append(_card(element('bdi', run), None, plot))
  key = element(
    'p',
    f'{what}; the baseline in grey, 95\u00a0% intervals as bars.',
    class_='key',
  )
  return join(key, element('div', cards, class_='charts'))


def _coverage_line(run: str, bins: list[dict[str, Any]], kind: str) -> plots.Line:
  return plots.Line(
    points=[((b['low'] + b['high']) / 2, b['top1']['value']) for b in bins],
    kind=kind,
    text=words.isolated(run),
    tips=[
      f'{words.isolated(run)}, people on {words.percent(b["low"])} to'
      f' {words.percent(b["high"])}\u00a0% of the frame: {words.told(b["top1"])}'
      for b in bins
    ],
    intervals=[(b['top1']['low'], b['top1']['high']) for b in bins],
  )


def saliency(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  """Where the gradient lies: a bar of three parts, and under it what the parts cover."""
  rows = []
  for run in experiment['runs']:
    found = dataset['saliency'].get(run)
    if not found:
      continue
    shares = {
      name: found[name]['value'] for name in found['area'] if found[name]['value'] is not None
    }
    area = {name: share for name, share in found['area'].items() if share is not None}
    if not shares:
      continue
    text = ', '.join(f'{name} {words.told(found[name])}' for name in shares)
    covered = ', '.join(f'{name} {words.percent(share)}\u00a0%' for name, share in area.items())
    rows += [
      element('bdi', breakable(run), class_='label'),
      element(
        'div',
        charts.stacked(shares, f'{words.isolated(run)}: {text}', 20),
        charts.stacked(area, f'share of the pixels: {covered}', 7),
      ),
    ]
  if not rows:
    return None
  legend = [
    [element('span', class_=f'swatch part-{name}'), f' {name} ']
    for name in ('person', 'object', 'background')
  ]
  key = element(
    'p',
    legend,
    element('br'),
    'Thick: share of the gradient, %. Thin: share of the pixels.',
    class_='key',
  )
  return join(key, element('div', rows, class_='bars saliency'))


def curves(experiment: dict[str, Any]) -> Markup | None:
  """Loss and accuracy in training: a plot for each run, a line for each seed."""
  parts = []
  seeds = list(dict.fromkeys(seed for run in experiment['runs'].values() for seed in run['curves']))
  for field, title, write in (
    ('loss', 'Loss', words.compact),
    ('accuracy', 'Accuracy in training, %', words.whole_percent),
  ):
    found = {
      run: drawn
      for run, entry in experiment['runs'].items()
      if (drawn := _seeds(entry, field, seeds))
    }
    if not found:
      continue
    everything = [point for drawn in found.values() for line in drawn for point in line.points]
    up = scales.axis([y for _, y in everything], ticks=4)
    across = scales.axis([x for x, _ in everything], ticks=4)
    cards = [
      _card(
        element('bdi', run),
        None,
        plots.lines(
          drawn, across, up, ('step', title), f'{title} of {words.isolated(run)}',
          words.compact, write,
        ),
      )
      for run, drawn in found.items()
    ]  # fmt: skip
    parts += [element('h4', title), element('div', cards, class_='charts')]
  if not parts:
    return None
  legend = [
    [element('span', class_=f'swatch seed{number % 4}'), f' seed {seed} ']
    for number, seed in enumerate(seeds)
  ]
  return join(element('p', legend, class_='key'), parts)


# Points of a curve that are drawn; more cannot be told apart at its size.
_CURVE_POINTS = 100


def _seeds(entry: dict[str, Any], field: str, seeds: list[str]) -> list[plots.Line]:
  drawn = []
  for seed, curve in entry['curves'].items():
    points = plots.thinned(list(zip(curve['step'], curve[field], strict=False)), _CURVE_POINTS)
    if points:
      drawn.append(plots.Line(points, f'seed{seeds.index(seed) % 4}', f'seed {seed}'))
  return drawn
