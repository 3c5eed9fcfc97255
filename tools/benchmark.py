"""Measures how fast the parts of zsar_jax are, beside the same work done by other code.

    zsar benchmark pipeline|buckets|size|masks|step|candidates|eval|masking|text

Prints one line of JSON for each measurement, then one for each comparison, or a table.
"""

import argparse
from collections.abc import Sequence

from zsar_jax.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error

from .benchmarks import (
  buckets,
  candidates,
  evaluation,
  masking,
  masks,
  pipeline,
  size,
  step,
  text,
)

# Each module has `add_flags(parser)`, and `run(arguments)`, which prints the lines.
BENCHMARKS = {
  'pipeline': pipeline,
  'buckets': buckets,
  'size': size,
  'masks': masks,
  'step': step,
  'candidates': candidates,
  'eval': evaluation,
  'masking': masking,
  'text': text,
}


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the benchmark that the command line names."""
  parser = argparse.ArgumentParser(
    'zsar benchmark',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest='benchmark', required=True, metavar='BENCHMARK')
  for name, module in BENCHMARKS.items():
    summary = (module.__doc__ or '').splitlines()[0]
    module.add_flags(commands.add_parser(name, help=summary, description=summary))
  arguments = parse_arguments(parser, argv)
  with exit_on_user_error():
    BENCHMARKS[arguments.benchmark].run(arguments)


if __name__ == '__main__':
  main()
