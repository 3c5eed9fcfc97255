"""What predictions have in addition if their classes are pairs of a verb and an object.

In the file of the predictions these are further arrays, for V verbs and O objects:

    verbs          str[V]
    objects        str[O]
    class_pairs    i32[C, 2]    the verb and the object of each class
    pair_counts    i32[V, O]    the training clips of each pair

and, if the open world was scored,

    open_world     i32[R, N]    the number `verb * O + object` of the pair with the largest logit
                                among all V x O; -1 if a logit is not finite, or the clip does not
                                count under the recipe

Only the best pair of the open world is kept: all its logits would be 3.6 GB for each recipe of
Sth-com, and its figures are all of top-1.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zsar_jax.data.verb_objects import VerbObjects

# The arrays, with their kind and axes; those after `open_world` are missing without an open world.
FORMATS = {
  'verbs': ('text', 'V'),
  'objects': ('text', 'O'),
  'class_pairs': ('int32', 'C2'),
  'pair_counts': ('int32', 'VO'),
  'open_world': ('int32', 'RN'),
}


@dataclasses.dataclass(frozen=True, eq=False)
class PairPredictions:
  """The verbs and objects of predictions.

  Attributes:
    vocabulary: of all classes.
    open_world: i32[N] for each recipe, see the head of this file; None if it was not scored.
  """

  vocabulary: VerbObjects
  open_world: dict[str, np.ndarray] | None = None

  def check(self, recipes: Sequence[str], clips: int, classes: int) -> None:
    """Raises a `ValueError` that begins with the array's name if the arrays are inconsistent."""
    verbs, objects = len(self.vocabulary.verbs), len(self.vocabulary.objects)
    for name, texts in (('verbs', self.vocabulary.verbs), ('objects', self.vocabulary.objects)):
      if not texts or len(set(texts)) < len(texts):
        raise ValueError(f'{name}: it is empty, or a name occurs twice')
      if any('\0' in text for text in texts):
        raise ValueError(f'{name}: a name contains a zero character')
    pairs, counts = self.vocabulary.classes, self.vocabulary.counts
    if pairs.shape != (classes, 2) or counts.shape != (verbs, objects):
      raise ValueError(f'class_pairs: {list(pairs.shape)} for {classes} classes of {verbs} verbs')
    if (pairs < 0).any() or (pairs >= [verbs, objects]).any():
      raise ValueError(f'class_pairs: not all of {verbs} verbs and {objects} objects')
    if len(np.unique(pairs, axis=0)) < classes:
      raise ValueError('class_pairs: two classes are the same pair')
    if (counts < 0).any():
      raise ValueError('pair_counts: one is negative')
    if self.open_world is None:
      return
    if tuple(self.open_world) != tuple(recipes):
      raise ValueError(f'open_world: for {list(self.open_world)}, but the recipes are {recipes}')
    for best in self.open_world.values():
      if best.shape != (clips,) or (best < -1).any() or (best >= verbs * objects).any():
        raise ValueError(f'open_world: not a pair of {verbs} verbs and {objects} objects per clip')

  def to_arrays(self) -> dict[str, np.ndarray]:
    """Returns the arrays of the file."""
    arrays = {
      'verbs': np.array(self.vocabulary.verbs, str),
      'objects': np.array(self.vocabulary.objects, str),
      'class_pairs': self.vocabulary.classes,
      'pair_counts': self.vocabulary.counts,
    }
    if self.open_world is not None:
      arrays['open_world'] = np.stack(list(self.open_world.values()))
    return arrays

  @classmethod
  def from_arrays(
    cls, arrays: Mapping[str, Any], recipes: Sequence[str]
  ) -> 'PairPredictions | None':
    """Returns what `to_arrays` wrote; None if the arrays of the file are of other predictions."""
    if 'verbs' not in arrays:
      return None
    vocabulary = VerbObjects(
      tuple(arrays['verbs'].tolist()),
      tuple(arrays['objects'].tolist()),
      arrays['class_pairs'],
      arrays['pair_counts'],
    )
    best = arrays.get('open_world')
    return cls(vocabulary, None if best is None else dict(zip(recipes, best, strict=True)))
