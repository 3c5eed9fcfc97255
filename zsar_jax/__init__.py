"""zsar_jax: does a zero-shot recognizer see the action, or only the scene and the objects?

model = zsar_jax.load('runs/pantomime')
model.zero_shot('clip.mp4', ['archery', 'arm wrestling'])
"""

from typing import Any


def load(source: str, **options: Any) -> Any:
  """A model ready to use; see `zsar_jax.api.load`."""
  # Imported late: the tools that only read data need neither models nor JAX.
  from zsar_jax.api import load as load_model

  return load_model(source, **options)
