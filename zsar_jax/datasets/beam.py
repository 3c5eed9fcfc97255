"""Staging chunks on an engine of Apache Beam (extra `beam`): the only file that imports it."""

from collections.abc import Sequence

from zsar_jax.datasets.staging import Chunk, stage_chunk
from zsar_jax.errors import UserError


def stage_on_beam(work: Sequence[tuple[Chunk, str]], runner: str, options: Sequence[str]) -> None:
  """Stages chunks, each a unit of work that the engine may run, and repeat, anywhere.

  Args:
    work: the chunks and their paths, which every process of the engine must see.
    runner: the runner's name, like 'DirectRunner'.
    options: of the runner, each as 'name=value', or 'name' for a switch.

  Raises:
    UserError: if Beam is not installed, refuses the options, or a process of its failed.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError:
    raise UserError(
      "--beam_runner: apache-beam is not installed; pip install -e '.[beam]'"
    ) from None

  flags = [f'--{option}' for option in (f'runner={runner}', *options)]
  try:
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    # Chunks that were finished before are found and kept, by whichever process looks at them.
    _ = pipeline | beam.Create(work) | beam.Reshuffle() | beam.MapTuple(stage_chunk)
    pipeline.run().wait_until_finish()
  except SystemExit:  # Beam's options are argparse's.
    raise UserError(f'--beam_options: {", ".join(options)} are not options of {runner}') from None
  except Exception as error:  # Each engine has its own.
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    raise UserError(
      f'--beam_runner: {runner} failed ({reason}); once that is mended the same command continues'
    ) from None
