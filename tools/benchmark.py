"""Measures how fast the parts of zsar_jax are, each beside the same work done otherwise.

    zsar benchmark pipeline|step|eval|masking|text

Every measurement is one line of JSON on stdout, every comparison another one at the end.
"""

import argparse
from collections.abc import Sequence

from zsar_jax.runtime.command_line import parse_arguments
from zsar_jax.runtime.reporting import exit_on_user_error

from .benchmarks import evaluation, masking, pipeline, step, text

# Each has `add_flags(parser)`, and `run(arguments)` that prints the lines.
BENCHMARKS = {
  'pipeline': pipeline,
  'step': step,
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
    described = (module.__doc__ or '').splitlines()[0]
    module.add_flags(commands.add_parser(name, help=described, description=described))
  arguments = parse_arguments(parser, argv)
  with exit_on_user_error():
    BENCHMARKS[arguments.benchmark].run(arguments)


if __name__ == '__main__':
  main()
