"""What training programs wrap weights in: dictionaries around them, and prefixes of their keys."""

import collections
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.pickles import Record, ScriptObject, StridedTensor
from zsar_jax.weights.formats.tensors import MOST_ARRAYS, State, shown

# Weights lie no deeper in what is saved, and nothing has as many parts.
_DEEPEST = 4
_MOST_ENTRIES = 1_000_000
_DEEPEST_MODULE = 32

# Where training programs keep what is no weight of the model.
# DeepSpeed repeats frozen parameters as `frozen_param_fragments`.
_TRAINING = re.compile(
  r'optim|sched|scaler|rng|random|callback|loop|hyper_param|hparams|frozen_param'
)
# Parameters averaged over training, beside those of its last step.
_AVERAGED = re.compile(r'(.*[_.])?(ema|swa|avg|averaged?|polyak|shadow)([_.\d].*)?', re.IGNORECASE)
# What DDP, torch.compile, FSDP, activation checkpointing and Lightning Fabric put into keys, at the
# front or around a part of the model.
_PARTS = frozenset(
  (
    'module',
    '_orig_mod',
    '_fsdp_wrapped_module',
    '_checkpoint_wrapped_module',
    '_forward_module',
  )
)

Named = dict[str, StridedTensor]


def unwrap(path: pathlib.Path, saved: Any) -> tuple[Named, tuple[str, ...]]:
  """The tensors of the model in what was saved, by their keys.

  The model is the dictionary with the most tensors; of weights as they are and their average in one
  file, those as they are. Tensors of other dictionaries, such as ActionCLIP's head, have the names
  of those in front of their keys. An optimizer's do not count.

  Args:
    path: for errors.
    saved: what a pickle held.

  Returns:
    The tensors, and what a user should know.

  Raises:
    UserError: where there are none.
  """
  groups = dict(_groups(path, saved))
  if not groups:
    what = f', but an object of the class {shown(saved.name)}' if type(saved) is Record else ''
    raise UserError(f'{path}: holds no state dict{what}; save model.state_dict()')
  most = max(map(len, groups.values()))
  main = min(
    # An average can hold the weights twice and two counters (ema_pytorch).
    (name for name, group in groups.items() if 3 * len(group) >= most),
    key=lambda name: (is_averaged(name), -len(groups[name])),
  )
  named, notes = groups.pop(main), []
  for name, group in groups.items():
    if is_averaged(name) and not is_averaged(main):
      notes.append(_averaged_note(name))
      continue
    # A number beside the model, such as an accuracy, is no weight.
    around = not name or main.startswith(f'{name}.')
    named |= {
      f'{name}.{key}'.lstrip('.'): tensor
      for key, tensor in group.items()
      if tensor.shape or not around
    }
  return named, tuple(notes)


def is_averaged(name: str) -> bool:
  """Whether weights of this name, or with this prefix, are an average over training."""
  return _AVERAGED.fullmatch(name.strip('.')) is not None


def _averaged_note(name: str) -> str:
  return f'{name!r}, an average of the same weights, is in the file too and is not read'


def _groups(path: pathlib.Path, saved: Any) -> Iterator[tuple[str, Named]]:
  """The dictionaries that hold tensors, by the names that lead to them."""
  entries = arrays = 0
  waiting, seen = collections.deque([('', saved, 0)]), set()
  while waiting:
    name, value, depth = waiting.popleft()
    if id(value) in seen or depth > _DEEPEST:
      continue
    seen.add(id(value))
    if isinstance(value, ScriptObject):
      group = _attributes(path, value)
    else:
      content = value.items if isinstance(value, Record) else value
      if not isinstance(content, dict):
        continue
      entries += len(content)
      texts = {key: part for key, part in content.items() if isinstance(key, str)}
      group = {key: part for key, part in texts.items() if isinstance(part, StridedTensor)}
      waiting += [
        (f'{name}.{key}'.lstrip('.'), part, depth + 1)
        for key, part in texts.items()
        if isinstance(part, dict | Record | ScriptObject)
        and not (depth == 0 and _TRAINING.search(key.lower()))
      ]
    arrays += len(group)
    if arrays > MOST_ARRAYS or entries > _MOST_ENTRIES:
      raise UserError(f'{path}: holds more than a model does; save its state dict alone')
    if group:
      yield name, group


def _attributes(path: pathlib.Path, module: ScriptObject) -> Named:
  """The tensors of a TorchScript module and of those in it."""
  named, waiting, seen, entries = {}, [('', module, 0)], set(), 0
  while waiting:
    prefix, module, depth = waiting.pop()
    attributes = module.attributes
    if id(module) in seen or not isinstance(attributes, dict) or depth > _DEEPEST_MODULE:
      raise UserError(f'{path}: no tree of TorchScript modules; fetch it again')
    seen.add(id(module))
    entries += len(attributes)
    if entries > _MOST_ENTRIES:
      raise UserError(f'{path}: holds more than a model does; save its state dict alone')
    for name, value in attributes.items():
      if isinstance(value, ScriptObject):
        waiting.append((f'{prefix}{name}.', value, depth + 1))
      elif isinstance(value, StridedTensor):
        named[f'{prefix}{name}'] = value
  return named


def without_parts(path: pathlib.Path, state: State) -> State:
  """The arrays as they are called before wrappers of modules rename them.

  Raises:
    UserError: where two arrays would be called the same.
  """
  renamed = {}
  for key, tensor in state.items():
    name = '.'.join(part for part in key.split('.') if part not in _PARTS)
    if name in renamed:
      raise UserError(f'{path}: holds {name} twice, wrapped and not; save one of them alone')
    renamed[name] = tensor
  return renamed


def without_prefix(
  path: pathlib.Path, state: State, anchors: Iterable[str]
) -> tuple[State, tuple[str, ...]]:
  """The arrays of a model that is a part of what was saved, as they are called in itself.

  Lightning puts the name of an attribute in front of a model's keys, and mmaction2 `clip`. Keys
  without that name stay as they are; the average of the same weights is left out.

  Args:
    path: for errors.
    state: the arrays.
    anchors: keys of which one is in every model.

  Returns:
    The arrays, and what a user should know.

  Raises:
    UserError: where there are several models.
  """
  anchors = tuple(anchors)
  # In Scenic's trees, names are parted otherwise.
  prefixes = {
    key.removesuffix(anchor)
    for key in state
    for anchor in anchors
    if key == anchor or key.endswith((f'.{anchor}', f'/{anchor}'))
  }
  averages = {prefix for prefix in prefixes if is_averaged(prefix)}
  prefixes = sorted(prefixes - averages or averages)
  averages.difference_update(prefixes)
  if 'model.' in prefixes:  # Beside FROSTER's, its frozen teacher.
    prefixes = ['model.']
  if len(prefixes) > 1:
    raise UserError(
      f'{path}: holds several models, as {", ".join(map(repr, prefixes))[:200]}; save one of them'
      ' alone'
    )
  if not prefixes:
    return state, ()
  renamed = {
    key.removeprefix(prefixes[0]): tensor
    for key, tensor in state.items()
    if not key.startswith(tuple(averages))
  }
  notes = [_averaged_note(prefix) for prefix in sorted(averages)]
  if prefixes[0]:
    notes.append(f'the model is {prefixes[0][:-1]!r} in what was saved')
  return renamed, tuple(notes)
