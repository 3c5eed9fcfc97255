"""Runs a function on Apache Beam (extra `beam`); the only file that imports it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from zsar_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Beam:
  """An Apache Beam runner.

  Attributes:
    runner: its name, like 'DirectRunner'.
    options: its options, each as 'name=value', or 'name' for a switch.
  """

  runner: str
  options: tuple[str, ...] = ()


def run_on_beam(
  function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], beam: Beam
) -> None:
  """Calls a function with each of several arguments; its results are dropped.

  Args:
    function: a module-level function. Beam may repeat a call, in any of its processes, so that it
      must keep what is finished. It must find the files that it is given in every process.
    arguments: the arguments of each call.
    beam: the runner.

  Raises:
    UserError: if Beam is not installed, refuses the options, or one of its processes failed.
  """
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError:
    raise UserError(
      "--beam_runner: apache-beam is not installed; pip install -e '.[beam]'"
    ) from None

  flags = [f'--{option}' for option in (f'runner={beam.runner}', *beam.options)]
  try:
    pipeline = apache_beam.Pipeline(options=PipelineOptions(flags))
    _ = (
      pipeline
      | apache_beam.Create(arguments)
      | apache_beam.Reshuffle()
      | apache_beam.MapTuple(function)
    )
    pipeline.run().wait_until_finish()
  except SystemExit:  # Beam parses its options with argparse.
    options = ', '.join(beam.options)
    raise UserError(f'--beam_options: {options} are not options of {beam.runner}') from None
  except Exception as error:  # Each runner raises classes of its own.
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise UserError(
      f'--beam_runner: {beam.runner} failed ({reason}); once that is repaired the same command'
      ' continues'
    ) from None
