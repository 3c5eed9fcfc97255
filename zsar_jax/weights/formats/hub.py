"""Downloads weights from the Hugging Face hub; needs the extra `hub`."""

import contextlib
import pathlib

from zsar_jax.errors import UserError, first_line
from zsar_jax.runtime import terminal
from zsar_jax.storage.paths import HUB_PREFIX as PREFIX
from zsar_jax.text import sentencepiece_files

# Model descriptions, tokenizers and the card, which states the license.
_DESCRIPTIONS = ('*.json', 'merges.txt', *sentencepiece_files.NAMES, 'README.md')
# Weight files, in order of preference.
_WEIGHTS = ('*.safetensors', '*.bin', '*.npz', '*.pt')


def fetch(name: str) -> pathlib.Path:
  """Returns the local folder of 'hf://OWNER/NAME@REVISION', downloading it if necessary.

  Raises:
    UserError: if it cannot be downloaded.
  """
  repository, _, revision = name.removeprefix(PREFIX).partition('@')
  try:
    import huggingface_hub
  except ImportError:
    raise UserError(
      f"{name}: names on the hub need an additional package; pip install 'zsar_jax[hub]'"
    ) from None
  for weights in _WEIGHTS:
    try:
      with contextlib.redirect_stderr(terminal.raw_stderr()):  # Shows its progress bars.
        folder = huggingface_hub.snapshot_download(
          repository, revision=revision or None, allow_patterns=[*_DESCRIPTIONS, weights]
        )
    except Exception as error:  # The exceptions depend on its version and its HTTP library.
      raise UserError(
        f'{name}: cannot be downloaded ({first_line(error)}); check the name and the network, or'
        ' name a folder'
      ) from None
    if any(pathlib.Path(folder).glob(weights)):
      return pathlib.Path(folder)
  raise UserError(f'{name}: has none of {", ".join(_WEIGHTS)}; name another model')
