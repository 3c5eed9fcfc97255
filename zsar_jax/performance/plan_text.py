"""Formats a plan as text."""

from typing import Any

from zsar_jax.runtime.chips import GIB
from zsar_jax.runtime.wording import format_bytes, pluralize

_ESTIMATES = ('activations', 'gradients', 'gathered parameters')
# Rows of the table of traffic; the JSON has all.
_MAX_ROWS = 12
_NAMES = {
  'compute': 'computing',
  'memory': 'memory',
  'network': 'network',
  'slices': 'network between slices',
}


def describe(plan: dict[str, Any]) -> str:
  """Returns the text of a plan from `planner.make_plan`."""
  model, chip = plan['model'], plan['chip']
  mesh = ', '.join(f'{axis} {size}' for axis, size in plan['mesh'].items())
  slices = f' in {plan["slices"]} slices' if plan['slices'] > 1 else ''
  lines = [
    f'{plan["topology"]}: {pluralize(plan["devices"], "device")}{slices}, mesh {mesh}',
    f'{model["preset"]}, temporal {model["temporal"]}, {pluralize(plan["frames"], "frame")},'
    f' {model["dtype"]}, attention {model["attention"]}, remat {model["remat"]};'
    f' {plan["parameters"]:,} parameters, {plan["classes"]} classes',
  ]
  if plan['changes']:
    lines.append(f'To divide batches over the devices, {"; ".join(plan["changes"])}.')
  if chip:
    link = 'links' if chip['torus'] else 'NVLink'
    lines.append(
      f'{chip["name"]}, published: {chip["flops"] / 1e12:g} TFLOP/s in bf16, memory'
      f' {chip["memory"] / GIB:.2f} GiB at {chip["memory_bandwidth"] / 1e9:g} GB/s, sends'
      f' {chip["link_bandwidth"] / 1e9:g} GB/s ({link}; {chip["source"]})'
    )
  if plan['slices'] > 1:
    lines.append(
      f"Between slices, over the data center's network, a chip's share is"
      f' {chip["slice_bandwidth"] / 1e9:g} GB/s; the mesh axis data goes over it.'
    )
  if plan['machines'] > 1:
    lines.append(
      f'The network time takes the {plan["machines"]} machines to be one: between machines the'
      ' network is slower than NVLink.'
    )
  if not plan['compiled']:
    lines.append(
      "The compiler for GPUs is not installed (pip install 'zsar_jax[cuda12]'): activations,"
      ' gradients, traffic and times are estimates; parameters, optimizer state, batches and FLOPs'
      ' are exact.'
    )
  elif plan['platform'] == 'gpu':
    lines.append(
      'Compiled without a GPU: no kernel was timed, and a run may choose other kernels for'
      ' products.'
    )
  if model['dtype'] != 'bfloat16' and chip:
    lines.append(f'The config computes in {model["dtype"]}, for which the peak is lower.')
  accumulation = plan['accumulation']
  micro = f' in {accumulation} micro-batches' if accumulation > 1 else ''
  title = f'Training step, {plan["train"]["batch"]} clips{micro}'
  lines += ['', title, *_step_lines(plan['train'], plan)]
  if 'evaluation' in plan:
    step = plan['evaluation']
    recipes = pluralize(step['recipes'], 'recipe')
    title = f'Evaluation step, {pluralize(step["batch"], "clip")} under {recipes}'
    lines += ['', title, *_step_lines(step, plan)]
  return '\n'.join(lines)


def _step_lines(step: dict[str, Any], plan: dict[str, Any]) -> list[str]:
  lines = _memory_lines(step, plan['compiled'])
  flops = step['flops']
  parts = [f'{_format_flops(flops["traced"])} in the traced program']
  if 'compiled' in flops:
    parts.append(f'{_format_flops(flops["compiled"])} in the compiled one')
  if 'compiler' in flops:
    parts.append(f"{_format_flops(flops['compiler'])} by the compiler's count, loop bodies once")
  lines.append(f'  FLOPs of a device: {"; ".join(parts)}')
  if step.get('unknown_loops'):
    lines.append(f'  loops of unknown length, counted once: {", ".join(step["unknown_loops"])}')
  if step.get('bytes') is not None:
    lines.append(f'  memory traffic of a device: {format_bytes(step["bytes"])}')
  if 'kernels' in step:
    lines += _kernel_lines(step, plan['chip']['memory_bandwidth'])
  if 'collectives' in step:
    lines += _collective_lines(step['collectives'])
  if 'must_move' in step:
    moved = [f'{name} {format_bytes(size)}' for name, size in step['must_move'].items() if size]
    lines.append(f'  the sharding must send, from a device: {", ".join(moved) or "nothing"}')
  if 'roofline' in step:
    lines += _roofline_lines(step)
  if step.get('largest_batch'):
    largest = _describe_largest(step['largest_batch'], plan['compiled'])
    lines.append(f'  largest batch that fits: {largest}')
  if 'compile_seconds' in step:
    lines.append(f'  compiled in {step["compile_seconds"]:.0f} s')
  return lines


def _memory_lines(step: dict[str, Any], compiled: bool) -> list[str]:
  lines = ['  memory of a device']
  for kind, size in step['memory'].items():
    if size and kind not in ('total', 'available'):
      mark = '  (estimate)' if not compiled and kind in _ESTIMATES else ''
      lines.append(f'    {kind:<34}{format_bytes(size):>12}{mark}')
  total = f'    {"total":<34}{format_bytes(step["memory"]["total"]):>12}'
  if 'available' in step['memory']:
    verdict = 'fits' if step['fits'] else 'DOES NOT FIT'
    total += f'  of {format_bytes(step["memory"]["available"])}: {verdict}'
  if step.get('memory_fraction'):
    total += f' with XLA_CLIENT_MEM_FRACTION={step["memory_fraction"]}'
  return [*lines, total]


def _kernel_lines(step: dict[str, Any], bandwidth: float) -> list[str]:
  """Returns the kernels by kind, and what moves most memory outside products."""

  def columns(row: dict[str, Any]) -> str:
    milliseconds = 1e3 * row['bytes'] / bandwidth
    return f'{row["count"]:>7}{format_bytes(row["bytes"]):>12}{milliseconds:>9.2f} ms'

  lines = [f'  {"kernels":<46}{"count":>7}{"traffic":>12}{"at the peak":>12}{"computing":>14}']
  for row in step['kernels']:
    flops = _format_flops(row['flops']) if row['flops'] else ''
    lines.append(f'    {row["kind"]:<44}{columns(row)}{flops:>14}'.rstrip())
  by_source: dict[str, dict[str, Any]] = {}
  for row in step['moves']:
    name = row['source'].partition(' + ')[0] + (', backward' if row['backward'] else '')
    part = by_source.setdefault(name, {'count': 0, 'bytes': 0.0})
    part['count'] += row['count']
    part['bytes'] += row['bytes']
  lines.append('  outside products, by the function that most of a kernel comes from')
  sources = sorted(by_source.items(), key=lambda item: -item[1]['bytes'])
  lines += [f'    {name:<44}{columns(row)}' for name, row in sources[:_MAX_ROWS]]
  lines.append('  outside products, the kernels that move most')
  for row in step['moves'][:_MAX_ROWS]:
    name = f'{row["source"]}{", backward" if row["backward"] else ""}'
    lines.append(f'    {row["kind"]:<44}{columns(row)}  {name}: {row["results"]}')
  return lines


def _collective_lines(rows: list[dict[str, Any]]) -> list[str]:
  if not rows:
    return ['  no collectives']
  lines = [f'  {"collectives":<22}{"over":<14}{"of":<20}{"count":>6}{"size":>12}{"sent":>12}']
  for row in rows:
    over = ' x '.join(row['axes']) or 'unknown'
    lines.append(
      f'    {row["kind"]:<20}{over:<14}{row["what"]:<20}{row["count"]:>6}'
      f'{format_bytes(row["bytes"]):>12}{format_bytes(row["moved"]):>12}'
    )
  sent = sum(row['moved'] for row in rows)
  return [*lines, f'    {"in all":<60}{"":>12}{format_bytes(sent):>12}']


def _roofline_lines(step: dict[str, Any]) -> list[str]:
  roofline = step['roofline']
  times = ', '.join(
    f'{_NAMES[name]} {1e3 * roofline[name]:.2f} ms' for name in _NAMES if name in roofline
  )
  seconds = roofline['seconds']
  rate = f'{step["batch"] / seconds:,.0f} clips/s' if seconds else 'no bound'
  lines = [
    f'  at the peaks: {times}',
    f'  roofline: {1e3 * seconds:.2f} ms ({rate}), bound by {_NAMES[roofline["bound_by"]]};'
    f' {1e3 * roofline["without_overlap"]:.2f} ms if nothing overlapped',
  ]
  if sequential := roofline.get('kernel_by_kernel'):
    share = roofline['compute'] / sequential
    lines.append(
      f'  kernels one after another at the peaks: {1e3 * sequential:.2f} ms'
      f' ({step["batch"] / sequential:,.0f} clips/s, {100 * share:.0f} % of the peak FLOP/s)'
    )
  return lines


def _describe_largest(answer: dict[str, Any], compiled: bool) -> str:
  if not compiled:
    return f'{pluralize(answer["batch"], "clip")}, by the estimate'
  sizes = ' and '.join(map(str, answer['from']))
  how = 'compiled' if answer['verified'] else f'extrapolated from compiles at {sizes}'
  return f'{pluralize(answer["batch"], "clip")} ({how})'


def _format_flops(flops: float) -> str:
  for unit, scale in (('T', 1e12), ('G', 1e9)):
    if flops >= scale:
      return f'{flops / scale:.3g} {unit}FLOP'
  return f'{flops / 1e6:.3g} MFLOP'
