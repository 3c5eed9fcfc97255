"""Class texts: all classes under some templates, beside PyTorch's.

The peer pads texts to 77 tokens, as CLIP's tokenizer does; 'longest' pads them to the longest text,
as this project does.
"""

import argparse

from . import models, workload
from .models import Comparison

_LOOPS = ('ours/text', 'peer/text', 'peer/text_longest', 'peer/compiled_text')
_COMPARISONS = (
  Comparison('texts per second, ours / peer', 'peer/text', 'ours/text'),
  Comparison('texts per second, ours / peer, longest', 'peer/text_longest', 'ours/text'),
  Comparison('texts per second, ours / compiled', 'peer/compiled_text', 'ours/text'),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this benchmark."""
  workload.add_flags(parser, templates=4)


def run(arguments: argparse.Namespace) -> None:
  """Measures and prints the lines."""
  work = workload.from_flags(arguments)
  same = (('ours/text', 'peer/text'), ('peer/text', 'peer/text_longest'))
  texts = work.classes * work.templates
  models.run(work, arguments.repeats, texts, (_LOOPS,), _COMPARISONS, same)
