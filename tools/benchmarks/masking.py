"""Masking: what painting adds to the optimizer step, and painting alone beside PyTorch's."""

import argparse

from . import models, workload
from .models import Comparison

_LOOPS = (
  ('ours/step', 'ours/step_masked'),
  ('ours/normalize', 'ours/mask', 'peer/normalize', 'peer/mask'),
)
_COMPARISONS = (
  Comparison(
    'time of the step with masks / without', 'ours/step_masked', 'ours/step', at_most=1.02
  ),
  Comparison('time of normalizing and masking alone / the step', 'ours/mask', 'ours/step'),
  Comparison('clips per second normalized and masked, ours / peer', 'peer/mask', 'ours/mask'),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser, repeats=5)


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines."""
  work = workload.from_flags(arguments)
  same = (('ours/normalize', 'peer/normalize'),)
  models.run(work, arguments.repeats, work.batch, _LOOPS, _COMPARISONS, same)
