"""Loads weights of any format into the parameters of a model."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from zsar_jax.errors import UserError
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import trees
from zsar_jax.runtime.wording import pluralize
from zsar_jax.weights.formats import infer, position_embeddings
from zsar_jax.weights.formats.hints import Hints
from zsar_jax.weights.formats.lazy_arrays import FLOATS, LazyArray
from zsar_jax.weights.formats.load_report import LoadReport, notes_of
from zsar_jax.weights.formats.preprocessing import Preprocessing
from zsar_jax.weights.formats.read import TOKEN_EMBEDDING, MappedArray, Weights, read_weights

# Fields of `TowerSpec` that may differ between the weights and the model: position embeddings are
# interpolated, the rules decide on missing and left-over layers, and the config chooses the
# normalization.
_FREE_FIELDS = ('resolution', 'image_layers', 'text_layers', 'normalization')


# Resizes f32[N, D] to another N; None if it cannot.
_Resize = Callable[[np.ndarray, int], np.ndarray | None]


def load_weights(
  name: str,
  model: VideoModel,
  *,
  field: str,
  format_name: str = 'auto',
  tokens_from: str = '',
  allow_missing: Sequence[str] = (),
  allow_left_over: Sequence[str] = (),
  preprocessing: Preprocessing | None = None,
) -> tuple[Params, LoadReport]:
  """Loads weights into the parameters of a model.

  Args:
    name: a file, a folder, a run of this project, or 'hf://OWNER/NAME'.
    model: the model.
    field: the setting that contains `name`, for errors.
    format_name: the name of one of `recognition.FORMATS`; 'auto' recognizes it.
    tokens_from: like `name`: weights whose token embedding is used if these have none.
    allow_missing: regexes of full parameter paths that may keep their initial values.
    allow_left_over: regexes of full keys in the file that may be ignored.
    preprocessing: the preprocessing of the model, which the report compares with that of the
      weights; None if it is that of the weights.

  Returns:
    The parameters as f32 NumPy arrays, and a report. A missing parameter is None, which
    `trees.merge(params, model.init(key))` replaces by its initial value.

  Raises:
    UserError: if the weights are damaged, refused or do not fit the model.
  """
  weights = read_weights(name, field, format_name, tokens_from)
  return fit_to_model(weights, model, allow_missing, allow_left_over, preprocessing)


def fit_to_model(
  weights: Weights,
  model: VideoModel,
  allow_missing: Sequence[str] = (),
  allow_left_over: Sequence[str] = (),
  preprocessing: Preprocessing | None = None,
) -> tuple[Params, LoadReport]:
  """Returns weights as the parameters of a model; see `load_weights`."""
  _check_fields(weights, model)
  shapes = {
    trees.path_name(path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.abstract_params)
  }
  missing = [path for path in shapes if path not in weights.arrays]
  unused = {array.key: array.stored for path, array in weights.arrays.items() if path not in shapes}
  unused |= weights.unmapped
  dropped = [key for key, array in unused.items() if _is_droppable(weights, key, array)]
  left_over = [key for key in unused if key not in dropped]
  _check_rules(weights, model, missing, left_over, allow_missing, allow_left_over)

  resizes = _resizes(model)
  arrays, interpolated = {}, []
  for path, shape in shapes.items():
    if path in weights.arrays:
      array = weights.arrays[path]
      arrays[path] = _read(weights, resizes.get(path), array, shape)
      if array.stored.shape != array.layout.their_shape(shape):
        interpolated.append(f'{path}, from {array.stored.shape} to {shape}')
  report = LoadReport(
    path=weights.path,
    format=weights.format.name,
    matched=len(arrays),
    missing=tuple(missing),
    left_over=tuple(left_over),
    dropped=tuple(dropped),
    interpolated=tuple(interpolated),
    notes=notes_of(weights, model, preprocessing),
  )
  return trees.map_with_path(lambda path, _: arrays.get(path), model.abstract_params), report


def _is_droppable(weights: Weights, key: str, array: LazyArray) -> bool:
  """Returns whether an unused array can be ignored; integers are counts or positions."""
  return array.dtype not in FLOATS or any(
    re.fullmatch(pattern, key) for pattern in weights.format.droppable
  )


def _check_fields(weights: Weights, model: VideoModel) -> None:
  """Refuses weights of a model with other sizes."""
  for field, value in infer.tower_fields(weights).items():
    expected = getattr(model.spec, field)
    if field not in _FREE_FIELDS and value != expected:
      raise UserError(
        f'{weights.path}: weights of another model: {field} is {value} there and {expected} here;'
        f' {weights.hints.other_model_remedy}'
      )


def _check_rules(
  weights: Weights,
  model: VideoModel,
  missing: Sequence[str],
  left_over: Sequence[str],
  allow_missing: Sequence[str],
  allow_left_over: Sequence[str],
) -> None:
  """Refuses missing parameters and left-over keys that no rule allows."""
  hints = weights.hints
  # Raises if a rule matches no parameter.
  trees.match_rules(
    [(rule, True) for rule in allow_missing], model.abstract_params, False, hints.allow_missing
  )
  missing = _without_matches(missing, allow_missing, hints.allow_missing)
  left_over = _without_matches(left_over, allow_left_over, hints.allow_left_over)
  if TOKEN_EMBEDDING in missing and weights.format.name == 'vifi_clip':
    raise UserError(
      f'{weights.path}: files of ViFi-CLIP have no token embedding; name the CLIP model that its'
      f' training started from in {hints.tokens_from}'
    )
  counts = f'{pluralize(len(missing), "array")} missing, {len(left_over)} left over'
  if missing:
    raise UserError(
      f'{weights.path}: lacks {missing[0]} ({counts}; read as {weights.format.name});'
      f' {hints.missing_remedy}'
    )
  if left_over:
    raise UserError(
      f'{weights.path}: also holds {left_over[0]} ({counts}; read as {weights.format.name});'
      f' {hints.left_over_remedy}'
    )


def _without_matches(names: Iterable[str], rules: Sequence[str], field: str) -> list[str]:
  """Returns the names that no rule matches."""
  try:
    return [name for name in names if not any(re.fullmatch(rule, name) for rule in rules)]
  except re.error as error:
    raise UserError(f'{field}: not a regular expression ({error})') from None


def _resizes(model: VideoModel) -> dict[str, _Resize]:
  """Returns how parameters are resized to another resolution or number of frames."""
  method = model.spec.parts.grid_interpolation
  return {
    'visual/positional_embedding': functools.partial(
      position_embeddings.resize_grid, method=method
    ),
    'visual/temporal_embedding': position_embeddings.resize_frames,
    'temporal/positional_embedding': position_embeddings.resize_frames,
  }


def _read(
  weights: Weights, resize: _Resize | None, array: MappedArray, shape: tuple[int, ...]
) -> np.ndarray:
  """Returns the f32 values of a parameter that has `shape`."""
  stored, expected = array.stored, array.layout.their_shape(shape)
  name = f'{array.path}: {array.key}'
  if stored.dtype not in FLOATS:
    raise UserError(
      f'{name} contains {stored.dtype} instead of floats; {weights.hints.other_model_remedy}'
    )
  resize = resize if stored.shape != expected else None
  is_resizable = (
    resize is not None
    and len(stored.shape) == len(expected)
    and stored.shape[-1:] == expected[-1:]
    and math.prod(stored.shape) > 0
  )
  if stored.shape != expected and not is_resizable:
    raise _shape_error(name, stored.shape, expected, weights.hints)
  with np.errstate(over='ignore'):  # Overflows are refused below.
    values = np.asarray(stored.read()).astype(np.float32)
  if not np.isfinite(values).all():
    raise UserError(f'{name} contains values that are not finite; use weights of another run')
  if resize is None:
    return np.asarray(array.layout.load(values, shape), order='C')
  resized = resize(values.reshape(stored.shape[-2:]), shape[0])
  if resized is None:
    raise _shape_error(name, stored.shape, expected, weights.hints)
  return np.asarray(resized, order='C')


def _shape_error(
  name: str, shape: tuple[int, ...], expected: tuple[int, ...], hints: Hints
) -> UserError:
  return UserError(f'{name} has shape {shape} instead of {expected}; {hints.other_model_remedy}')
