"""The worlds of Pantomime: their words, their class names, and which classes are novel.

Every class is a pair of words, and every pair of words is a class. In the 4 x 4 table of classes,
one class of each row is novel: a model can name it only by combining words that it has learned. In
`scenes` and `mimes` no two novel classes share a column, so that both words distinguish them. In
`tabletop` two novel classes share a direction, so that only the manner distinguishes them, which
the object gives away in training.
"""

from zsar_jax.errors import UserError

WORLDS = ('scenes', 'mimes', 'tabletop')
# Settings are chosen on 'validation'; reported figures are those of 'test'.
SPLITS = ('train', 'validation', 'test')

ARMS = ('waving', 'punching', 'clapping', 'flapping')
LEGS = ('squatting', 'kicking', 'jumping', 'marching')
MANNERS = ('nudging', 'sliding', 'carrying', 'rolling')
DIRECTIONS = ('to the left', 'to the right', 'away', 'closer')

# The column of the novel class in each row.
_NOVEL_LEGS = (0, 1, 2, 3)
_NOVEL_DIRECTIONS = (0, 3, 3, 0)

_FIGURE_NAMES = tuple(f'a person {arm} while {leg}' for arm in ARMS for leg in LEGS)
_TABLETOP_NAMES = tuple(
  f'{manner} something {direction}' for manner in MANNERS for direction in DIRECTIONS
)


def index_in(names: tuple[str, ...], name: str, field: str) -> int:
  """Returns the index of `name` in `names`; raises a `UserError` about `field` if there is none."""
  if name not in names:
    raise UserError(f'Pantomime has no {field} {name!r}: choose one of {", ".join(names)}.')
  return names.index(name)


def class_names(world: str) -> tuple[str, ...]:
  """Returns the 16 class names of a world, in the order of their labels."""
  index_in(WORLDS, world, 'world')
  return _TABLETOP_NAMES if world == 'tabletop' else _FIGURE_NAMES


def word_pair(label: int) -> tuple[int, int]:
  """Returns a class's row and column in the table of words.

  Args:
    label: index in `class_names`.

  Returns:
    The indices in `ARMS` and `LEGS`, or in `MANNERS` and `DIRECTIONS`.
  """
  return divmod(label, len(LEGS))


def class_split(world: str) -> dict[str, tuple[str, ...]]:
  """Returns the base classes, which occur in training, and the novel ones, which do not.

  Args:
    world: one of `WORLDS`.

  Returns:
    `{'base': 12 class names, 'novel': 4 class names}`, each in the order of the labels.
  """
  novel = _NOVEL_DIRECTIONS if world == 'tabletop' else _NOVEL_LEGS
  split: dict[str, list[str]] = {'base': [], 'novel': []}
  for label, name in enumerate(class_names(world)):
    row, column = word_pair(label)
    split['novel' if column == novel[row] else 'base'].append(name)
  return {part: tuple(names) for part, names in split.items()}
