"""The worlds of Pantomime: their words, their class names, and which classes are novel.

Every class is a pair of words, and every pair of words is a class. Of the 4 x 4 table one class of
each row is novel, so that a model can name it only by putting together words it has learnt. In
`scenes` and `mimes` no two of these share a column: their arms and their legs tell them apart.
On the table two of them share a direction: there the manner has to be seen, which the object
would give away in training.
"""

from zsar_jax.errors import UserError

WORLDS = ('scenes', 'mimes', 'tabletop')
# Settings are chosen on `validation`; what is reported of them is reported of `test`.
SPLITS = ('train', 'validation', 'test')

ARMS = ('waving', 'punching', 'clapping', 'flapping')
LEGS = ('squatting', 'kicking', 'jumping', 'marching')
MANNERS = ('nudging', 'sliding', 'carrying', 'rolling')
DIRECTIONS = ('to the left', 'to the right', 'away', 'closer')

# The column of each row's novel class.
_NOVEL_LEGS = (0, 1, 2, 3)
_NOVEL_DIRECTIONS = (0, 3, 3, 0)

_FIGURE_NAMES = tuple(f'a person {arm} while {leg}' for arm in ARMS for leg in LEGS)
_TABLETOP_NAMES = tuple(
  f'{manner} something {direction}' for manner in MANNERS for direction in DIRECTIONS
)


def index_in(names: tuple[str, ...], name: str, field: str) -> int:
  """Position of `name` in `names`; a `UserError` naming `field` where it is not there."""
  if name not in names:
    raise UserError(f'Pantomime has no {field} {name!r}: choose one of {", ".join(names)}.')
  return names.index(name)


def class_names(world: str) -> tuple[str, ...]:
  """The 16 class names of a world, in the order of their labels."""
  index_in(WORLDS, world, 'world')
  return _TABLETOP_NAMES if world == 'tabletop' else _FIGURE_NAMES


def word_pair(label: int) -> tuple[int, int]:
  """A class's row and column in the table of words.

  Args:
    label: position in `class_names`.

  Returns:
    Positions in `ARMS` and `LEGS`, or in `MANNERS` and `DIRECTIONS`.
  """
  return divmod(label, len(LEGS))


def class_split(world: str) -> dict[str, tuple[str, ...]]:
  """The base classes, which occur in training, and the novel ones, which do not.

  Args:
    world: one of `WORLDS`.

  Returns:
    `{'base': 12 class names, 'novel': 4 class names}`, each in the order of the labels.
  """
  novel = _NOVEL_DIRECTIONS if world == 'tabletop' else _NOVEL_LEGS
  split = {'base': [], 'novel': []}
  for label, name in enumerate(class_names(world)):
    row, column = word_pair(label)
    split['novel' if column == novel[row] else 'base'].append(name)
  return {part: tuple(names) for part, names in split.items()}
