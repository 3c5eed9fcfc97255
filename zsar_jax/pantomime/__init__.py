"""Pantomime: a synthetic data set whose static bias is known, with every pixel labeled.

Three worlds, after the three data sets on which static bias is measured (arXiv 2501.12681):

  scenes    a person acts in a scene that almost gives the leg action away, in training and in
            validation (as in Kinetics400);
  mimes     the same actions in random scenes (as in Mimetics);
  tabletop  a hand moves an object that almost gives the manner away in training, but not in
            validation (as in Something-Something v2).

`render_clip(world, split, index, seed)` renders each clip independently of all others.
"""

from zsar_jax.pantomime.lexicon import SPLITS, WORLDS, class_names, class_split
from zsar_jax.pantomime.render import (
  OBJECT_AGREEMENT,
  SCENE_AGREEMENT,
  RenderedClip,
  clip_ids,
  render_clip,
)

__all__ = [
  'OBJECT_AGREEMENT',
  'SCENE_AGREEMENT',
  'SPLITS',
  'WORLDS',
  'RenderedClip',
  'class_names',
  'class_split',
  'clip_ids',
  'render_clip',
]
