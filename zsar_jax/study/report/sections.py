"""The sections of the page with results. Each is made for one data set, or is None without data."""

from typing import Any

from zsar_jax.study.report import charts, heatmap, plots, scales, tables, words
from zsar_jax.study.report import results as studies
from zsar_jax.study.report.markup import Markup, breakable, element, join


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
  room = f'panel from-{tables.step(heatmap.width(experiment))}'
  maps = [
    element('div', heatmap.heat_map(experiment, dataset, metric), class_=f'{room} choice {metric}')
    for metric in present
  ]
  if dataset['difference']:
    maps.append(element('div', heatmap.difference_map(experiment, dataset), class_=room))
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
  estimates = {
    run: dataset['bias'][run][name]
    for run in experiment['runs']
    if name in dataset['bias'].get(run, {})
  }
  if not estimates:
    return None
  ends = [estimate[end] for estimate in estimates.values() for end in ('value', 'high', 'chance')]
  axis = scales.axis([1.0, *ends], ticks=4)
  return card(
    [metric.title, ' ', _better(metric)], metric.meaning, _bars(experiment, estimates, axis)
  )


def card(title, meaning: str | None, *content) -> Markup:
  return element(
    'figure',
    element('figcaption', element('strong', title), element('p', meaning) if meaning else None),
    content,
    class_='chart',
  )


def _bars(experiment, estimates: dict[str, studies.Estimate], axis: scales.Axis) -> Markup:
  """A row for each run: name, bar, number with interval; below, of how many clips they are."""
  counts = words.clips_of(estimates.values())
  differ = ' to ' in counts
  rows = []
  for run, estimate in estimates.items():
    kind = 'base' if run == experiment['baseline'] else 'run'
    text = f'{words.isolated(run)}: {words.in_full(estimate)}'
    rows += [
      element('bdi', breakable(run), class_='label'),
      charts.bar(axis, estimate, text, kind),
      _number(estimate, differ),
    ]
  remarks = [counts] if counts else []
  level = words.chance_of(estimates.values())
  if level is not None:
    remarks.append(f'dashed: chance, {words.percent(level)}\u00a0%')
  elif any(estimate['chance'] is not None for estimate in estimates.values()):
    remarks.append('dashed: chance, which depends on the accuracy on unpainted clips')
  return join(
    element(
      'div', rows, element('span'), charts.scale_row(axis), element('span', '%'), class_='bars'
    ),
    element('p', '; '.join(remarks), class_='key') if remarks else None,
  )


def _number(estimate: studies.Estimate, with_count: bool) -> Markup:
  """The number beside a bar, its interval and, if asked for, its count of clips."""
  if estimate['value'] is None:
    return element('span', words.MISSING, class_='value', title=words.WHY_MISSING)
  between = words.interval(estimate)
  count = words.clips_of([estimate]) if with_count else ''
  return element(
    'span',
    words.percent(estimate['value']),
    [element('small', text) for text in (between, count) if text],
    class_='value',
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
    element('th', metric.title, ' ', _better(metric), scope='col') for metric in present.values()
  ]
  rows, shown = [], []
  for run in experiment['runs']:
    cells = []
    for name, metric in present.items():
      estimate = dataset['bias'].get(run, {}).get(name)
      value = None if estimate is None else estimate['value']
      between = '' if value is None else words.interval(estimate, words.plain)
      tip = words.WHY_MISSING if value is None else words.in_full(estimate, words.plain, '')
      shown += [] if value is None else [estimate]
      cells.append(
        element(
          'td',
          words.plain(value),
          element('small', f' {between}') if between else None,
          title=tip,
          data_label=metric.title,
        )
      )
    rows.append(element('tr', heatmap.run_heading(experiment, run), cells))
  table = element(
    'table',
    element('caption', 'Gaps in front of swapped backgrounds'),
    element('thead', element('tr', element('th', 'run', scope='col'), head)),
    element('tbody', rows),
    class_='plain stack',
  )
  meanings = '; '.join(f'{metric.title}: {metric.meaning}' for metric in present.values())
  key = f'With 95\u00a0% intervals; {words.clips_of(shown)}. {meanings}. 0: neither is ahead.'
  return join(element('div', table, class_='scroll', tabindex='0'), element('p', key, class_='key'))


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
    ends = [estimate[end] for estimate in estimates.values() for end in ('high', 'chance')]
    axis = scales.axis([1.0, *ends])
    title = [element('bdi', attribute), ': ', element('bdi', value)]
    cards.append(card(title, None, _bars(experiment, estimates, axis)))
  return element('div', cards, class_='charts') if cards else None


def coverage(experiment: dict[str, Any], dataset: dict[str, Any]) -> Markup | None:
  """Top-1 by the people's share of the frame, on clips as they are and over swapped backgrounds."""
  parts = [
    part
    for field, what in (
      ('coverage', 'Top-1 of unpainted clips, %'),
      ('coverage_swapped', 'SHAcc: top-1 in front of the background of another clip, %'),
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
  level = words.chance_of(b['top1'] for bins in found.values() for b in bins)
  up = scales.axis([*ends, level], ticks=4, least=0.1)
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
      level,
    )
    cards.append(card(element('bdi', run), None, plot))
  text = f'{what}. Grey: the baseline. Vertical lines: 95\u00a0% intervals.'
  if level is not None:
    text += f' Dashed: chance, {words.percent(level)}\u00a0%.'
  groups = {
    run: [
      (f'people cover {words.percent(b["low"])} to {words.percent(b["high"])}\u00a0%', b['top1'])
      for b in bins
    ]
    for run, bins in found.items()
  }
  return join(
    element('p', text, class_='key'), element('div', cards, class_='charts'), tables.numbers(groups)
  )


def _coverage_line(run: str, bins: list[dict[str, Any]], kind: str) -> plots.Line:
  return plots.Line(
    points=[((b['low'] + b['high']) / 2, b['top1']['value']) for b in bins],
    kind=kind,
    text=words.isolated(run),
    tips=[
      f'{words.isolated(run)}, people on {words.percent(b["low"])} to'
      f' {words.percent(b["high"])}\u00a0% of the frame: {words.in_full(b["top1"])}'
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
    text = ', '.join(f'{name} {words.in_full(found[name])}' for name in shares)
    covered = ', '.join(f'{name} {words.percent(share)}\u00a0%' for name, share in area.items())
    seen = ', '.join(
      f'{name} {words.percent(found[name]["value"])} ({words.interval(found[name])})'
      for name in shares
    )
    count = words.clips_of(found[name] for name in shares)
    rows += [
      element('bdi', breakable(run), class_='label'),
      element(
        'div',
        charts.stacked(shares, f'{words.isolated(run)}: {text}', 20),
        charts.stacked(area, f'share of the pixels: {covered}', 7),
        element('small', f'Gradient, %: {seen}. Pixels: {covered}.{f" {count}." if count else ""}'),
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
    'Thick bar: share of the gradient, with 95\u00a0% intervals below. Thin bar: share of the'
    ' pixels of the same clips.',
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
      card(
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
