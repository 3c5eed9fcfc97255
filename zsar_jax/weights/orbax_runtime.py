"""What Orbax's interface has no options for: its messages, and file systems that lack something."""

import asyncio
import functools
import logging
import sys
from collections.abc import Collection
from typing import Any

from zsar_jax.runtime import file_systems


@functools.cache
def silence_orbax() -> None:
  """Keeps from stderr what Orbax, TensorStore and asyncio print where a checkpoint is not written.

  They raise the same errors, which `weights.checkpoint` turns into one sentence. A full disk would
  add hundreds of lines of tracebacks to it.
  """
  # Orbax logs by absl.
  logging.getLogger('absl').addFilter(_not_of_orbax)
  logging.getLogger('asyncio').addFilter(_not_of_a_checkpoint)
  before = sys.unraisablehook

  def hook(found: Any) -> None:
    # TensorStore calls an event loop of Orbax, which is closed after the first error.
    frame = found.exc_traceback.tb_frame if found.exc_traceback else None
    if frame is None or frame.f_code is not asyncio.BaseEventLoop.call_soon_threadsafe.__code__:
      before(found)

  sys.unraisablehook = hook


def adapt_to_file_system(lacking: Collection[str]) -> None:
  """Lets Orbax write checkpoints without the features that the file system lacks.

  TensorStore locks each file that it writes, renames it and calls fsync. A checkpoint is complete
  when its folder gets its final name: of its files none has to be.
  """
  options: dict[str, Any] = {}
  if file_systems.LOCKS in lacking or file_systems.REPLACING in lacking:
    options['file_io_locking'] = {'mode': 'non_atomic'}
  if file_systems.SYNCING in lacking:
    options['file_io_sync'] = False
  if options:
    from orbax.checkpoint._src.serialization import tensorstore_utils

    tensorstore_utils._BASE_TS_CONTEXT.update(options)
    tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT.update(options)


def _not_of_orbax(record: logging.LogRecord) -> bool:
  return record.levelno < logging.ERROR or 'orbax' not in record.pathname


def _not_of_a_checkpoint(record: logging.LogRecord) -> bool:
  # Tasks whose errors nobody has asked for: they name the folder that was written to.
  return 'orbax-checkpoint-tmp' not in record.getMessage()
