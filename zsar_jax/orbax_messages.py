"""Keeps from stderr what Orbax, TensorStore and asyncio print of a checkpoint that is not written.

They raise the same errors, of which `zsar_jax.checkpoint` makes one sentence; a full disk would
add hundreds of lines of tracebacks to it.
"""

import asyncio
import functools
import logging
import sys
from typing import Any


@functools.cache
def silence() -> None:
  """Drops their messages from now on, and no others."""
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


def _not_of_orbax(record: logging.LogRecord) -> bool:
  return record.levelno < logging.ERROR or 'orbax' not in record.pathname


def _not_of_a_checkpoint(record: logging.LogRecord) -> bool:
  # Tasks whose errors nobody has asked for: they name the folder that was written to.
  return 'orbax-checkpoint-tmp' not in record.getMessage()
