"""Evaluation: clips under several recipes in one pass, beside a loop in PyTorch.

Both sides encode the class texts once, before the measurement.
"""

import argparse

from . import models, workload
from .models import Comparison

_COMPARISONS = (Comparison('clips per second evaluated, ours / peer', 'peer/eval', 'ours/eval'),)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser)


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines."""
  work = workload.from_flags(arguments)
  loops = ('ours/eval', 'peer/eval')
  models.run(work, arguments.repeats, work.batch, (loops,), _COMPARISONS, (loops,))
