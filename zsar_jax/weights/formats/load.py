"""Weights of any known format as the parameters of a model."""

import dataclasses
import math
import pathlib
import re
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import trees
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.formats import infer, positions
from zsar_jax.weights.formats.read import TOKENS, Array, Weights, read_weights
from zsar_jax.weights.formats.tensors import FLOATS
from zsar_jax.weights.formats.usage import Usage, differences

# Of these the file may have others than the model: positions are interpolated, of layers that are
# missing or left over the rules decide, and the normalization is the config's to choose.
_FREE = ('resolution', 'image_layers', 'text_layers', 'normalization')

# CLIP before any training on actions: there are no templates or crops that it would have to keep.
_PLAIN = ('openai', 'open_clip', 'hf_clip', 'scenic')


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """What became of the arrays of a file and of the parameters of a model.

  Attributes:
    path: the file or folder.
    format: what it was taken for.
    matched: how many parameters have their values from it.
    missing: parameters that it has no values for, as the rules allow.
    left_over: its keys that the model has no place for, as the rules allow.
    dropped: its keys without which this model loses nothing.
    interpolated: what was interpolated, from what to what.
    notes: what else a user should know.
  """

  path: pathlib.Path
  format: str
  matched: int
  missing: tuple[str, ...]
  left_over: tuple[str, ...]
  dropped: tuple[str, ...]
  interpolated: tuple[str, ...]
  notes: tuple[str, ...]

  def describe(self) -> str:
    """A few lines, block numbers summed up."""
    lines = [f'{self.path}: {self.format}, {pluralize(self.matched, "array")} matched']
    for name in ('missing', 'left_over', 'dropped'):
      paths = getattr(self, name)
      if paths:
        lines.append(f'  {name.replace("_", " ")}: {len(paths)} ({_summary(paths)})')
    lines += [f'  interpolated: {line}' for line in self.interpolated]
    return '\n'.join([*lines, *(f'  {note}' for note in self.notes)])


def load_weights(
  name: str,
  model: VideoModel,
  *,
  field: str,
  format_name: str = 'auto',
  tokens_from: str = '',
  allow_missing: Sequence[str] = (),
  allow_left_over: Sequence[str] = (),
  usage: Usage | None = None,
) -> tuple[Params, LoadReport]:
  """Reads weights as the parameters of a model.

  Args:
    name: a file, a folder, a run of this project, or 'hf://OWNER/NAME'.
    model: the model.
    field: where `name` comes from, for errors.
    format_name: one of `weights.FORMATS`; 'auto' recognizes it.
    tokens_from: as `name`: weights whose token embedding is taken where these have none.
    allow_missing: regexes of the whole paths of parameters that may keep their initial values.
    allow_left_over: regexes of the whole keys in the file that may be ignored.
    usage: how they are used here, so that the report names what was otherwise in their training;
      None where they are used as they were trained.

  Returns:
    The parameters as f32 NumPy arrays, with None where one is missing, which
    `trees.merge(params, model.init(key))` fills; and what became of the arrays.

  Raises:
    UserError: for weights that are damaged, refused or do not fit.
  """
  return fit_to_model(
    read_weights(name, field, format_name, tokens_from),
    model,
    allow_missing,
    allow_left_over,
    usage,
  )


def fit_to_model(
  weights: Weights,
  model: VideoModel,
  allow_missing: Sequence[str] = (),
  allow_left_over: Sequence[str] = (),
  usage: Usage | None = None,
) -> tuple[Params, LoadReport]:
  """Weights as the parameters of a model; see `load_weights`."""
  _check_fields(weights, model)
  shapes = {
    trees.path_name(path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.abstract_params)
  }
  missing = [path for path in shapes if path not in weights.arrays]
  others = {array.key: array.tensor for path, array in weights.arrays.items() if path not in shapes}
  others |= weights.others
  # What is no float is no weight, but a count or a position.
  dropped = [
    key
    for key, tensor in others.items()
    if tensor.dtype not in FLOATS
    or any(re.fullmatch(rule, key) for rule in weights.format.droppable)
  ]
  left_over = [key for key in others if key not in dropped]
  _check_rules(weights, model, missing, left_over, allow_missing, allow_left_over)

  arrays, interpolated = {}, []
  for path, shape in shapes.items():
    if path in weights.arrays:
      array = weights.arrays[path]
      arrays[path] = _read(path, array, shape)
      if array.tensor.shape != array.layout.their_shape(shape):
        interpolated.append(f'{path}, from {array.tensor.shape} to {shape}')
  report = LoadReport(
    path=weights.path,
    format=weights.format.name,
    matched=len(arrays),
    missing=tuple(missing),
    left_over=tuple(left_over),
    dropped=tuple(dropped),
    interpolated=tuple(interpolated),
    notes=(*weights.notes, *_assumed(weights), *_trained(weights, model), *_used(weights, usage)),
  )
  return trees.map_with_path(lambda path, _: arrays.get(path), model.abstract_params), report


def _assumed(weights: Weights) -> list[str]:
  """What a user should know of what nothing tells."""
  if not weights.silent:
    return []
  heads = infer.tower_fields(weights)
  counts = f'{heads.get("image_heads", 0)} of images, {heads.get("text_heads", 0)} of texts'
  return [
    'nothing tells the activation and the heads: quick GELU is assumed, and heads 64 wide'
    f" ({counts}), as in OpenAI's weights"
  ]


def _trained(weights: Weights, model: VideoModel) -> list[str]:
  """What a user should know of how these were trained and the model is not."""
  notes = []
  theirs, ours = weights.described['normalization'], model.spec.normalization
  if theirs != ours:
    notes.append(
      f'normalization: trained on frames normalized as for {theirs!r}, and used here as for'
      f' {ours!r}; see config.model.normalization'
    )
  elif ours != 'clip':
    notes.append(f'normalization: {ours}')
  theirs, ours = weights.video.get('temporal'), model.video.temporal
  if theirs and theirs != ours:
    notes.append(f'temporal: trained as {theirs!r}, and used here as {ours!r}')
  return notes


def _used(weights: Weights, usage: Usage | None) -> list[str]:
  """What a user should know of the frames' crop and the class texts."""
  if usage is None or weights.format.name in _PLAIN:
    return []
  return differences(weights.usage, usage)


def _check_fields(weights: Weights, model: VideoModel) -> None:
  """Refuses weights of another model by the name of what is other."""
  for field, value in infer.tower_fields(weights).items():
    if field not in _FREE and value != getattr(model.spec, field):
      raise UserError(
        f'{weights.path}: weights of another model: {field} is {value} there and'
        f' {getattr(model.spec, field)} here; set config.model.preset as it was there'
      )


def _check_rules(
  weights: Weights,
  model: VideoModel,
  missing: Sequence[str],
  left_over: Sequence[str],
  allow_missing: Sequence[str],
  allow_left_over: Sequence[str],
) -> None:
  """Refuses what is missing or left over unless a rule allows it."""
  # Raises where a rule matches no parameter.
  trees.match_rules(
    [(rule, True) for rule in allow_missing],
    model.abstract_params,
    False,
    'config.model.allow_missing',
  )
  missing = _not_allowed(missing, allow_missing, 'config.model.allow_missing')
  left_over = _not_allowed(left_over, allow_left_over, 'config.model.allow_left_over')
  if TOKENS in missing and weights.format.name == 'vifi_clip':
    raise UserError(
      f'{weights.path}: files of ViFi-CLIP hold no token embedding; name the CLIP model that'
      f' its training began from in {weights.hints.tokens_from}'
    )
  counts = f'{pluralize(len(missing), "array")} missing, {len(left_over)} left over'
  if missing:
    raise UserError(
      f'{weights.path}: lacks {missing[0]} ({counts}; taken for {weights.format.name});'
      f' {weights.hints.missing}'
    )
  if left_over:
    raise UserError(
      f'{weights.path}: also holds {left_over[0]} ({counts}; taken for {weights.format.name});'
      f' {weights.hints.left_over}'
    )


def _not_allowed(names: Sequence[str], rules: Sequence[str], field: str) -> list[str]:
  try:
    return [name for name in names if not any(re.fullmatch(rule, name) for rule in rules)]
  except re.error as error:
    raise UserError(f'{field}: no regular expression ({error})') from None


def _read(path: str, array: Array, shape: tuple[int, ...]) -> np.ndarray:
  """The f32 values of a parameter of `shape`."""
  tensor, expected = array.tensor, array.layout.their_shape(shape)
  place = f'{array.path}: {array.key}'
  if tensor.dtype not in FLOATS:
    raise UserError(f'{place} holds {tensor.dtype}, not floats; it is no weight')
  resize = {
    'visual/positional_embedding': positions.resize_grid,
    'temporal/positional_embedding': positions.resize_frames,
  }.get(path)
  fits = tensor.shape == expected
  like = len(tensor.shape) == len(expected) and tensor.shape[-1:] == expected[-1:]
  if not fits and not (resize and like and math.prod(tensor.shape)):
    raise _other_shape(place, tensor.shape, expected)
  with np.errstate(over='ignore'):  # What overflows is refused below.
    values = np.asarray(tensor.read()).astype(np.float32)
  if not np.isfinite(values).all():
    raise UserError(f'{place} holds numbers that are not finite; take weights of a sound run')
  if not fits:
    values = resize(values.reshape(tensor.shape[-2:]), shape[0])
    if values is None:
      raise _other_shape(place, tensor.shape, expected)
    return np.asarray(values, order='C')
  return np.asarray(array.layout.load(values, shape), order='C')


def _other_shape(place: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> UserError:
  return UserError(
    f'{place} is {shape} there and must be {expected}; set config.model as it was there, or fetch'
    ' the file again'
  )


def _summary(names: Sequence[str]) -> str:
  """The first few names, those that differ in numbers as one."""
  kinds = Counter(re.sub(r'(?<=[/.])\d+(?=[/.])', '*', name) for name in names)
  parts = [kind if count == 1 else f'{kind} x {count}' for kind, count in kinds.items()]
  return ', '.join(parts[:6] + (['...'] if len(parts) > 6 else []))
