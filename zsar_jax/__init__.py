"""Trains and evaluates zero-shot action recognition, and measures its static bias.

model = zsar_jax.load('runs/pantomime')
model.zero_shot('clip.mp4', ['archery', 'arm wrestling'])
"""

from typing import Any


def load(source: str, **options: Any) -> Any:
  """Loads a model; see `zsar_jax.api.load`."""
  # Imported here, so that tools that only read data load neither models nor JAX.
  from zsar_jax.api import load as load_model

  return load_model(source, **options)
