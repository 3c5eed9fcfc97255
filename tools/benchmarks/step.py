"""The optimizer step, and the forward pass alone, beside PyTorch's."""

import argparse

from tools.benchmarks import models, workload
from tools.benchmarks.models import Comparison

_LOOPS = (
  'ours/forward',  # Before the steps, of which each side's weights are its own.
  'peer/forward',
  'peer/compiled_forward',
  'ours/step',
  'peer/step',
  'peer/compiled_step',
)
_COMPARISONS = (
  Comparison('clips per second of a step, ours / peer', 'peer/step', 'ours/step', at_least=2.0),
  Comparison('clips per second of a step, ours / compiled', 'peer/compiled_step', 'ours/step'),
  Comparison(
    'clips per second forward, ours / peer', 'peer/forward', 'ours/forward', at_least=1.15
  ),
  Comparison('clips per second forward, ours / compiled', 'peer/compiled_forward', 'ours/forward'),
)
_SAME = (('ours/forward', 'peer/forward'), ('ours/step', 'peer/step'))


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser)
  parser.add_argument(
    '--no-compile', action='store_true', help='leave out torch.compile, which takes long'
  )


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines."""
  work = workload.from_flags(arguments)
  loops = [loop for loop in _LOOPS if not (arguments.no_compile and 'compiled' in loop)]
  models.run(work, arguments.repeats, work.batch, loops, _COMPARISONS, _SAME)
