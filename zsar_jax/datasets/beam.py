"""Stages chunks on Apache Beam (extra `beam`); the only file that imports it."""

import dataclasses
from collections.abc import Sequence

from zsar_jax.datasets.staging import Chunk, stage_chunk
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


def stage_on_beam(work: Sequence[tuple[Chunk, str]], beam: Beam) -> None:
  """Stages chunks; Beam may run, and repeat, each of them in any of its processes.

  Args:
    work: the chunks and their paths, which every process of Beam must see.
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
    # `stage_chunk` keeps a chunk that was finished before, whichever process gets it.
    _ = (
      pipeline
      | apache_beam.Create(work)
      | apache_beam.Reshuffle()
      | apache_beam.MapTuple(stage_chunk)
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
