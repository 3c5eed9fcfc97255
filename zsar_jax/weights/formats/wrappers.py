"""Unwraps the weights that training programs save: dictionaries around them, prefixes of keys."""

import collections
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from zsar_jax.errors import UserError
from zsar_jax.weights.formats.lazy_arrays import MAX_ARRAYS, StateDict, printable
from zsar_jax.weights.formats.pickled_objects import Record, ScriptObject, StridedTensor

# Upper bounds for dictionaries around the weights, and for TorchScript modules.
_MAX_DEPTH = 4
_MAX_ENTRIES = 1_000_000
_MAX_MODULE_DEPTH = 32

# Top-level keys under which training programs save tensors that are not weights of the model.
# DeepSpeed repeats frozen parameters as `frozen_param_fragments`.
_TRAINING_KEYS = re.compile(
  r'optim|sched|scaler|rng|random|callback|loop|hyper_param|hparams|frozen_param'
)
# Names of an average of the weights over training.
_AVERAGED = re.compile(r'(.*[_.])?(ema|swa|avg|averaged?|polyak|shadow)([_.\d].*)?', re.IGNORECASE)
# Parts of keys that DDP, torch.compile, FSDP, activation checkpointing and Lightning Fabric add
# around the model or around a part of it.
_WRAPPER_PARTS = frozenset(
  (
    'module',
    '_orig_mod',
    '_fsdp_wrapped_module',
    '_checkpoint_wrapped_module',
    '_forward_module',
  )
)

Tensors = dict[str, StridedTensor]


def unwrap(path: pathlib.Path, saved: Any) -> tuple[Tensors, tuple[str, ...]]:
  """Returns the tensors of a saved model by their keys.

  The model is the dictionary with the most tensors. If a file contains the weights and their
  average over training, the average is not read. Keys of tensors in other dictionaries, such as
  ActionCLIP's head, are prefixed with the path of their dictionary. The state of an optimizer is
  ignored.

  Args:
    path: the file, for errors.
    saved: the content of a pickle.

  Returns:
    The tensors, and notes for the user.

  Raises:
    UserError: if there are no tensors.
  """
  groups = dict(_groups(path, saved))
  if not groups:
    instead = f' but a {printable(saved.name)}' if type(saved) is Record else ''
    raise UserError(f'{path}: holds no state dict{instead}; save model.state_dict()')
  most = max(map(len, groups.values()))
  main = min(
    # An average may contain the weights twice and two counters (ema_pytorch), so that the weights
    # themselves have only a third of its tensors.
    (name for name, group in groups.items() if 3 * len(group) >= most),
    key=lambda name: (_is_averaged(name), -len(groups[name])),
  )
  tensors, notes = groups.pop(main), []
  for name, group in groups.items():
    if _is_averaged(name) and not _is_averaged(main):
      notes.append(_averaged_note(name))
      continue
    # A scalar in a dictionary around the model, such as an accuracy, is not a weight.
    is_around = not name or main.startswith(f'{name}.')
    tensors |= {
      f'{name}.{key}'.lstrip('.'): tensor
      for key, tensor in group.items()
      if tensor.shape or not is_around
    }
  return tensors, tuple(notes)


def _is_averaged(name: str) -> bool:
  """Returns whether weights with this name or prefix are an average over training."""
  return _AVERAGED.fullmatch(name.strip('.')) is not None


def _averaged_note(name: str) -> str:
  return f'the file also contains {name!r}, an average of the same weights, which is not read'


def _groups(path: pathlib.Path, saved: Any) -> Iterator[tuple[str, Tensors]]:
  """Yields each dictionary that contains tensors, with its path in `saved`."""
  entries = arrays = 0
  remaining, visited = collections.deque([('', saved, 0)]), set()
  while remaining:
    name, value, depth = remaining.popleft()
    if id(value) in visited or depth > _MAX_DEPTH:
      continue
    visited.add(id(value))
    if isinstance(value, ScriptObject):
      group = _module_tensors(path, value)
    else:
      content = value.items if isinstance(value, Record) else value
      if not isinstance(content, dict):
        continue
      entries += len(content)
      named = {key: part for key, part in content.items() if isinstance(key, str)}
      group = {key: part for key, part in named.items() if isinstance(part, StridedTensor)}
      remaining += [
        (f'{name}.{key}'.lstrip('.'), part, depth + 1)
        for key, part in named.items()
        if isinstance(part, dict | Record | ScriptObject)
        and not (depth == 0 and _TRAINING_KEYS.search(key.lower()))
      ]
    arrays += len(group)
    if arrays > MAX_ARRAYS or entries > _MAX_ENTRIES:
      raise UserError(f'{path}: holds more than a model has; save its state dict alone')
    if group:
      yield name, group


def _module_tensors(path: pathlib.Path, module: ScriptObject) -> Tensors:
  """Returns the tensors of a TorchScript module and its submodules."""
  tensors, remaining, visited, entries = {}, [('', module, 0)], set(), 0
  while remaining:
    prefix, module, depth = remaining.pop()
    attributes = module.attributes
    if id(module) in visited or not isinstance(attributes, dict) or depth > _MAX_MODULE_DEPTH:
      raise UserError(f'{path}: not a tree of TorchScript modules; fetch it again')
    visited.add(id(module))
    entries += len(attributes)
    if entries > _MAX_ENTRIES:
      raise UserError(f'{path}: holds more than a model has; save its state dict alone')
    for name, value in attributes.items():
      if isinstance(value, ScriptObject):
        remaining.append((f'{prefix}{name}.', value, depth + 1))
      elif isinstance(value, StridedTensor):
        tensors[f'{prefix}{name}'] = value
  return tensors


def remove_wrapper_parts(path: pathlib.Path, state: StateDict) -> StateDict:
  """Removes the parts of keys that wrappers of modules add, such as 'module'.

  Raises:
    UserError: if two keys become equal.
  """
  renamed = {}
  for key, tensor in state.items():
    name = '.'.join(part for part in key.split('.') if part not in _WRAPPER_PARTS)
    if name in renamed:
      raise UserError(
        f'{path}: holds {name} twice, with and without a wrapper; save one of them alone'
      )
    renamed[name] = tensor
  return renamed


def remove_prefix(
  path: pathlib.Path, state: StateDict, anchors: Iterable[str]
) -> tuple[StateDict, tuple[str, ...]]:
  """Removes the prefix of a model that is a part of the saved arrays.

  Lightning prefixes a model's keys with the name of an attribute, and mmaction2 with `clip`. Keys
  without that prefix do not change. An average of the same weights is left out.

  Args:
    path: the file, for errors.
    state: the arrays.
    anchors: keys; every model has one of them.

  Returns:
    The arrays, and notes for the user.

  Raises:
    UserError: if there are several models.
  """
  anchors = tuple(anchors)
  # Scenic's trees separate names by '/'.
  all_prefixes = {
    key.removesuffix(anchor)
    for key in state
    for anchor in anchors
    if key == anchor or key.endswith((f'.{anchor}', f'/{anchor}'))
  }
  averages = {prefix for prefix in all_prefixes if _is_averaged(prefix)}
  prefixes = sorted(all_prefixes - averages or averages)
  averages.difference_update(prefixes)
  if 'model.' in prefixes:  # FROSTER's model; the other prefix is its frozen teacher.
    prefixes = ['model.']
  if len(prefixes) > 1:
    raise UserError(
      f'{path}: holds several models, {", ".join(map(repr, prefixes))[:200]}; save one of them'
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
    notes.append(f'the model is the part {prefixes[0][:-1]!r} of the file')
  return renamed, tuple(notes)
