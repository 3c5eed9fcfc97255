"""The optimizer step, and the forward pass alone, beside PyTorch's."""

import argparse
from typing import Any

from zsar_jax.models import flops
from zsar_jax.models.presets import VideoSpec
from zsar_jax.runtime import chips

from . import lines, models, workload
from .models import Comparison
from .workload import Workload

_LOOPS = (
  ('ours/forward', 'peer/forward', 'peer/compiled_forward'),
  ('ours/step', 'peer/step', 'peer/compiled_step'),
)
_SAME = (('ours/forward', 'peer/forward'), ('ours/step', 'peer/step'))

# The required share of a GPU's peak, counting the operations of the model itself: three times those
# of the forward pass, without what is recomputed.
_REQUIRED_MFU = 0.45


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser)
  loops = [loop for group in _LOOPS for loop in group]
  parser.add_argument(
    '--loops',
    nargs='+',
    default=loops,
    choices=loops,
    metavar='LOOP',
    help=f'of {", ".join(loops)}',
  )


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines; on a GPU with a published peak also the step's MFU."""
  work = workload.from_flags(arguments)
  groups = [[loop for loop in loops if loop in arguments.loops] for loops in _LOOPS]
  gpu = lines.gpu()
  results = models.run(work, arguments.repeats, work.batch, groups, comparisons(bool(gpu)), _SAME)
  if (chip := chips.find_chip(gpu)) and 'seconds' in results.get('ours/step', {}):
    lines.show(**utilization(work, chip, results['ours/step']['seconds']))


def comparisons(gpu: bool) -> list[Comparison]:
  """Returns the comparisons, with the ratios that are required on a GPU or a CPU."""
  step, forward, compiled = (1.5, None, 1.0) if gpu else (2.0, 1.15, None)
  name = 'clips per second {}, ours / {}'
  return [
    Comparison(name.format('of a step', 'peer'), 'peer/step', 'ours/step', step),
    Comparison(name.format('of a step', 'compiled'), 'peer/compiled_step', 'ours/step', compiled),
    Comparison(name.format('forward', 'peer'), 'peer/forward', 'ours/forward', forward),
    Comparison(name.format('forward', 'compiled'), 'peer/compiled_forward', 'ours/forward'),
  ]


def utilization(work: Workload, chip: chips.Chip, seconds: float) -> dict[str, Any]:
  """Returns the fields of the MFU line: operations by the model's dimensions over the peak."""
  towers = {name: {'kernel': True} for name in ('text', 'visual')}
  texts = workload.tokens(work).shape
  operations = flops.training_step(work.spec, VideoSpec(work.frames), work.batch, texts, towers)
  mfu = round(operations / seconds / chip.flops, 4)
  line = {'name': 'MFU of a step of ours, of the bfloat16 peak', 'mfu': mfu, 'flops': operations}
  required = (
    {'at_least': _REQUIRED_MFU, 'met': mfu >= _REQUIRED_MFU} if work.precision == 'bfloat16' else {}
  )
  return {**line, 'chip': chip.name, 'peak': chip.flops, **required}
