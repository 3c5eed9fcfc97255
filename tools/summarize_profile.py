"""Says where the time of traced training steps went, and what holds them back.

    zsar train ... --workdir=runs/mine --config.profile.steps='(10,15)'
    zsar profile runs/mine

Works offline, and without TensorBoard; XProf opens the same files.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

from zsar_jax.errors import UserError
from zsar_jax.performance import chips, traces
from zsar_jax.performance.traces import CATEGORIES, Span, Trace
from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error
from zsar_jax.runtime.wording import pluralize
from zsar_jax.training.profiling import FACTS

# Shares of a step from which on they are what holds it back.
_MUCH_WAITING = 0.1
_MUCH_MOVING = 0.25


@dataclasses.dataclass(frozen=True)
class Summary:
  """Where the time of a host's traced steps went.

  Attributes:
    steps: how many.
    seconds: of a step, from its dispatch on.
    waiting: the share of that in which the loop waited for a batch and no operation ran.
    idle: the share in which no operation ran, waiting for data included.
    categories: by category its share of the operations' time.
    operation_seconds: of all operations in a step; on a CPU the sum over threads.
    top: operations with their category and their share, those of the longest time first.
  """

  steps: int
  seconds: float
  waiting: float
  idle: float
  categories: dict[str, float]
  operation_seconds: float
  top: list[tuple[str, str, float]]


def main(argv: Sequence[str] | None = None) -> None:
  """Prints the summary of the newest trace of a workdir."""
  parser = argparse.ArgumentParser(
    'zsar profile',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('workdir', type=pathlib.Path, help='of the training')
  parser.add_argument('--top', type=int, default=10, help='operations listed (default: 10)')
  arguments = parse_arguments(parser, argv)
  with exit_on_user_error():
    folder = arguments.workdir / 'profile'
    facts = read_facts(folder / FACTS)
    for path in traces.newest_files(folder):
      print(path)
      print(table(summarize(traces.read_trace(path), arguments.top), facts))


def read_facts(path: pathlib.Path) -> dict[str, float]:
  """What the trainer wrote beside its traces; empty where it did not.

  Raises:
    UserError: if it is not readable.
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
  """Sums a trace up."""
  everything = [span for spans in trace.ops.values() for span in spans]
  steps = trace.steps or [Span('', *_ends(everything))]
  start = min(step.start for step in steps)
  end = max(_ends([*everything, *steps])[1], start + 1)
  inside = [span for span in everything if span.end > start]
  shares = []
  for spans in trace.ops.values():  # A mean over the devices.
    busy = traces.busy_intervals(spans)
    waited = sum(traces.uncovered_time(one.start, one.end, busy) for one in trace.waits)
    shares.append((waited / (end - start), traces.uncovered_time(start, end, busy) / (end - start)))
  waiting, idle = (sum(column) / len(shares) for column in zip(*shares, strict=True))
  by_category = collections.Counter({name: 0.0 for name in CATEGORIES})
  by_operation: collections.Counter[tuple[str, str]] = collections.Counter()
  for span in inside:
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


def _ends(spans: Sequence[Span]) -> tuple[float, float]:
  return min(span.start for span in spans), max(span.end for span in spans)


def utilization(summary: Summary, facts: dict[str, float]) -> float | None:
  """MFU: the model's operations per second as a share of the devices' peak, if that is known."""
  chip = chips.find_chip(facts['device']) if facts else None
  if chip is None:
    return None
  return facts['flops_per_step'] / summary.seconds / (chip.flops * facts['devices'])


def verdict(summary: Summary) -> str:
  """One sentence on what holds the step back."""
  categories = summary.categories
  if summary.waiting > _MUCH_WAITING:
    return (
      f'the input pipeline: {summary.waiting:.0%} of the step waits for data; raise'
      ' config.data.workers, or build the data set with smaller frames'
    )
  if summary.idle - summary.waiting > _MUCH_MOVING:
    return (
      f'the host: in {summary.idle - summary.waiting:.0%} of the step no operation runs though the'
      ' batch is there; larger batches or less frequent logging give the device more to do'
    )
  for name, remedy in (
    ('collectives', 'larger batches per device, or fewer devices along fsdp and tensor'),
    ('infeed and transfers', 'keep what is sent between host and device small'),
    ('copies', 'a look at the operations above: layouts change, or arrays are moved'),
    ('augmentation and masks', 'lower config.augment.jitter, or take a cheaper recipe'),
  ):
    if categories[name] > _MUCH_MOVING:
      return f"{name}, {categories[name]:.0%} of the operations' time; what helps: {remedy}"
  largest = max(categories, key=lambda name: categories[name])
  return f"computing: most of the operations' time is {largest} ({categories[largest]:.0%})"


def table(summary: Summary, facts: dict[str, float]) -> str:
  """The summary as text."""
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
    known = f'MFU {mfu:.1%}' if mfu is not None else 'MFU not known, for want of its peak'
    lines.append(
      f'{facts["clips_per_step"] / summary.seconds:.4g} clips/s, {rate / 1e12:.4g} TFLOP/s on'
      f' {facts["devices"]} x {facts["device"]}: {known}'
    )
  lines += ['', f'What holds the step back: {verdict(summary)}.', '']
  return '\n'.join(lines)


if __name__ == '__main__':
  main()
