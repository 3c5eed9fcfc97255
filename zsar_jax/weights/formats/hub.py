"""Weights by their name on the Hugging Face hub; needs the extra `hub`."""

import contextlib
import pathlib

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime import terminal
from zsar_jax.runtime.paths import HUB_PREFIX as PREFIX

# Descriptions and tokenizers, and weights in the order of preference.
_DESCRIPTIONS = ('*.json', 'merges.txt')
_WEIGHTS = ('*.safetensors', '*.bin')


def fetch(name: str) -> pathlib.Path:
  """The folder of 'hf://OWNER/NAME@REVISION', fetched unless it is there already.

  Raises:
    UserError: it cannot be had.
  """
  repository, _, revision = name.removeprefix(PREFIX).partition('@')
  try:
    import huggingface_hub
  except ImportError:
    raise UserError(
      f"{name}: names of the hub need a package more; pip install 'zsar_jax[hub]'"
    ) from None
  for weights in _WEIGHTS:
    try:
      with contextlib.redirect_stderr(terminal.raw_stderr()):  # It draws progress bars.
        folder = huggingface_hub.snapshot_download(
          repository, revision=revision or None, allow_patterns=[*_DESCRIPTIONS, weights]
        )
    except Exception as error:  # What it raises depends on its version and its HTTP library.
      raise UserError(
        f'{name}: not to be had from the hub ({first_line(error)}); check the name and the network,'
        ' or name a folder'
      ) from None
    if any(pathlib.Path(folder).glob(weights)):
      return pathlib.Path(folder)
  raise UserError(f'{name}: has neither safetensors nor .bin files; name another')
