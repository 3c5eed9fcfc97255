"""Shows where the time of traced training steps went, and what limits them.

    zsar train ... --workdir=runs/mine --config.profile.steps='(10,15)'
    zsar profile runs/mine

Works offline and without TensorBoard; XProf opens the same files.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from zsar_jax.command_line import parse_arguments, path_type
from zsar_jax.errors import UserError
from zsar_jax.performance import traces
from zsar_jax.performance.traces import CATEGORIES, Span, Trace
from zsar_jax.runtime import chips
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.runtime.wording import pluralize
from zsar_jax.training.profiling import FACTS

# From these shares of a step on, waiting for data or moving data is what limits it.
_WAITING_THRESHOLD = 0.1
_MOVING_THRESHOLD = 0.25


@dataclasses.dataclass(frozen=True)
class Summary:
  """The use of time in a host's traced steps.

  Attributes:
    steps: the number of steps.
    seconds: the duration of a step from its dispatch.
    waiting: the share of the time in which the loop waited for a batch and no operation ran.
    idle: the share of the time in which no operation ran, including waiting for data.
    categories: the share of each category in the operations' time.
    operation_seconds: the time of all operations in a step; on a CPU summed over threads.
    top: the operations that took longest, with their category and their share.
  """

  steps: int
  seconds: float
  waiting: float
  idle: float
  categories: dict[str, Any]
  operation_seconds: float
  top: list[tuple[str, str, float]]


def main(argv: Sequence[str] | None = None) -> None:
  """Prints the summary of the newest trace of a workdir."""
  parser = argparse.ArgumentParser(
    'zsar profile',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('workdir', type=path_type('WORKDIR'), help='of a training run')
  parser.add_argument(
    '--top', type=int, default=10, help='number of operations listed (default: 10)'
  )
  arguments = parse_arguments(parser, argv)
  with exit_on_user_error():
    folder = arguments.workdir / 'profile'
    facts = read_facts(folder / FACTS)
    for path in traces.newest_files(folder):
      print(path)
      print(table(summarize(traces.read_trace(path), arguments.top), facts))


def read_facts(path: pathlib.Path) -> dict[str, Any]:
  """Reads what the trainer wrote beside its traces; {} if there is no such file.

  Raises:
    UserError: if the file is not as the trainer writes it.
  """
  if not path.exists():
    return {}
  try:
    facts = json.loads(path.read_text())
    return {
      'device': str(facts['device']),
      'devices': int(facts['devices']),
      'clips_per_step': int(facts['clips_per_step']),
      'flops_per_step': float(facts['flops_per_step']),
    }
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: not as the trainer writes it ({error!r}); record a trace anew'
    ) from None


def summarize(trace: Trace, top: int) -> Summary:
  """Summarizes a trace.

  Args:
    trace: the trace of one host.
    top: the number of operations to list.
  """
  operations = [span for spans in trace.ops.values() for span in spans]
  steps = trace.steps or [Span('', *_time_range(operations))]
  start = min(step.start for step in steps)
  end = max(_time_range([*operations, *steps])[1], start + 1)
  shares = []
  for spans in trace.ops.values():
    busy = traces.busy_intervals(spans)
    waited = sum(traces.uncovered_time(wait.start, wait.end, busy) for wait in trace.waits)
    shares.append((waited / (end - start), traces.uncovered_time(start, end, busy) / (end - start)))
  # The mean over the devices.
  waiting, idle = (sum(column) / len(shares) for column in zip(*shares, strict=True))
  by_category: Any = collections.Counter({name: 0.0 for name in CATEGORIES})
  by_operation: Any = collections.Counter()
  for span in operations:
    if span.end > start:
      by_category[span.category] += span.own
      by_operation[span.name, span.category] += span.own
  total = max(sum(by_category.values()), 1)
  return Summary(
    steps=len(steps),
    seconds=(end - start) / len(steps) / 1e9,
    waiting=waiting,
    idle=idle,
    categories={name: ns / total for name, ns in by_category.most_common()},
    operation_seconds=total / len(steps) / len(trace.ops) / 1e9,
    top=[(*operation, ns / total) for operation, ns in by_operation.most_common(top)],
  )


def _time_range(spans: Sequence[Span]) -> tuple[float, float]:
  return min(span.start for span in spans), max(span.end for span in spans)


def utilization(summary: Summary, facts: dict[str, Any]) -> float | None:
  """Returns the MFU: the model's FLOPs per second over the devices' peak; None if unknown."""
  chip = chips.find_chip(facts['device']) if facts else None
  if chip is None:
    return None
  return facts['flops_per_step'] / summary.seconds / (chip.flops * facts['devices'])


def verdict(summary: Summary) -> str:
  """Returns what limits the step, in one sentence."""
  categories = summary.categories
  if summary.waiting > _WAITING_THRESHOLD:
    return (
      f'the input pipeline: the step waits for data {summary.waiting:.0%} of the time; raise'
      ' config.data.workers, or build the data set with smaller frames'
    )
  if summary.idle - summary.waiting > _MOVING_THRESHOLD:
    return (
      f'the host: {summary.idle - summary.waiting:.0%} of the time no operation runs although the'
      ' batch has arrived; larger batches or less frequent logging give the device more to do'
    )
  for name, remedy in (
    ('collectives', 'larger batches per device, or fewer devices along fsdp and tensor'),
    ('infeed and transfers', 'sending less between host and device'),
    ('copies', 'a look at the operations above: layouts change, or arrays are moved'),
    ('augmentation and masks', 'a lower config.augment.jitter, or a cheaper recipe'),
  ):
    if categories[name] > _MOVING_THRESHOLD:
      return f"{name}, {categories[name]:.0%} of the operations' time; this may help: {remedy}"
  largest = max(categories, key=lambda name: categories[name])
  return f"computing: most of the operations' time is {largest} ({categories[largest]:.0%})"


def table(summary: Summary, facts: dict[str, Any]) -> str:
  """Returns the summary as text."""
  lines = [f'{pluralize(summary.steps, "step")}, {1e3 * summary.seconds:.4g} ms each', '']
  lines.append(f'{"operations, by category":<34}{"ms per step":>12}{"share":>8}')
  for name, share in summary.categories.items():
    ms = 1e3 * share * summary.operation_seconds
    lines.append(f'  {name:<32}{ms:>12.4g}{share:>8.1%}')
  lines += ['', f'{"operation":<36}{"category":<24}{"share":>6}']
  for name, category, share in summary.top:
    lines.append(f'  {name[:32]:<34}{category:<24}{share:>6.1%}')
  lines += ['', f'waits for data: {summary.waiting:.1%} of the step (no operation running)']
  lines.append(f'no operation running: {summary.idle:.1%}')
  if facts:
    rate = facts['flops_per_step'] / summary.seconds
    mfu = utilization(summary, facts)
    utilized = f'MFU {mfu:.1%}' if mfu is not None else 'MFU unknown, since the peak is unknown'
    lines.append(
      f'{facts["clips_per_step"] / summary.seconds:.4g} clips/s, {rate / 1e12:.4g} TFLOP/s on'
      f' {facts["devices"]} x {facts["device"]}: {utilized}'
    )
  lines += ['', f'What limits the step: {verdict(summary)}.', '']
  return '\n'.join(lines)


if __name__ == '__main__':
  main()
