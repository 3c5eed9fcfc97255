"""The parameters of a model as files of other codebases, and as this project's own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import serialization
from safetensors.numpy import save_file

from zsar_jax.errors import UserError, error_reason
from zsar_jax.models.video_clip import Params, VideoModel
from zsar_jax.runtime import trees
from zsar_jax.runtime.files import make_folder
from zsar_jax.weights.formats import hugging_face, preprocessing, zsar
from zsar_jax.weights.formats.key_tables import Format
from zsar_jax.weights.formats.scenic import SCENIC
from zsar_jax.weights.formats.usage import CLIP, Usage

TARGETS = ('hf', 'scenic', 'zsar')

# What only training uses, which the models of others have no place for.
_TRAINING_ONLY = 'distillation/'

# What has no place in the files of others.
_TEXTS = ('templates', 'split_words', 'placeholders')
_UNTOLD = types.MappingProxyType(
  {
    'hf': _TEXTS,
    'scenic': ('normalization', 'interpolation', 'resize', 'centre_crop', *_TEXTS),
    'zsar': (),
  }
)

# What transformers reads a tokenizer from.
_TOKENIZER = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
)


def save_weights(
  params: Params,
  model: VideoModel,
  target: str,
  out: pathlib.Path,
  tokenizer: pathlib.Path | None = None,
  usage: Usage = CLIP,
) -> str:
  """Writes parameters, whole or not at all.

  Args:
    params: the parameters.
    model: the model.
    target: one of `TARGETS`. 'hf' writes a folder that transformers opens as `XCLIPModel`
      (temporal 'xclip') or `CLIPModel`, 'scenic' a file of Flax's msgpack with Scenic's tree,
      'zsar' a folder that this project opens.
    out: the folder or file, which is not there yet.
    tokenizer: a folder whose tokenizer is copied into that of 'hf' or 'zsar', if it has one.
    usage: how it is used, which is written beside the weights of 'hf' and 'zsar'.

  Returns:
    What a user of the result has to know, '' if nothing.

  Raises:
    UserError: `out` is there or cannot be written, or the other side has no place for a parameter.
  """
  if out.exists():
    raise UserError(f'{out} is there already; name another or remove it')
  form = _format(model, target)
  arrays = _theirs(params, form)
  if target == 'scenic':
    tree = {}
    for key, array in arrays.items():
      *parents, leaf = key.split('/')
      node = tree
      for parent in parents:
        node = node.setdefault(parent, {})
      node[leaf] = array
    with _whole(out) as partial:
      partial.write_bytes(serialization.msgpack_serialize({'params': tree}))
  else:
    with _whole(out) as partial:
      partial.mkdir()
      if target == 'hf':
        _write(partial / form.config, hugging_face.describe(model.spec, model.video))
        preparation = preprocessing.to_transformers(model.spec, usage)
        _write(partial / preprocessing.PREPROCESSOR, preparation)
      else:
        _write(partial / form.config, zsar.to_json(model.spec, model.video, usage))
      # Without this, transformers does not open it.
      save_file(arrays, partial / 'model.safetensors', metadata={'format': 'pt'})
      for name in _TOKENIZER if tokenizer else ():
        if (tokenizer / name).is_file():
          shutil.copyfile(tokenizer / name, partial / name)
  notes = [_difference(model.video.temporal)] if form in (hugging_face.HF_CLIP, SCENIC) else []
  return '; '.join([*notes, *_untold(model, target, usage)])


def _write(path: pathlib.Path, value: dict[str, Any]) -> None:
  path.write_text(f'{json.dumps(value, indent=2)}\n')


def _difference(temporal: str) -> str:
  """What a model for images lacks of a video model."""
  if temporal == 'window':
    return (
      'it is a model of images: frames do not see each other there, and its numbers are those of'
      " 'mean' and not of 'window'"
    )
  return "it is a model of images: a clip is the mean of its frames' embeddings"


def _untold(model: VideoModel, target: str, usage: Usage) -> list[str]:
  """What the result does not tell of how frames and class names must reach it."""
  needed = {'normalization': model.spec.normalization} | dataclasses.asdict(usage)
  usual = {'normalization': 'clip'} | dataclasses.asdict(CLIP)
  values = [f'{name} {needed[name]!r}' for name in _UNTOLD[target] if needed[name] != usual[name]]
  if not values:
    return []
  return [f'it does not tell {", ".join(values)}, which its numbers need']


def _format(model: VideoModel, target: str) -> Format:
  if target == 'hf':
    xclip = model.video.temporal == 'xclip'
    return hugging_face.HF_XCLIP if xclip else hugging_face.HF_CLIP
  return {'scenic': SCENIC, 'zsar': zsar.ZSAR}[target]


def _theirs(params: Params, form: Format) -> dict[str, np.ndarray]:
  """The arrays under their keys, in their layouts."""
  arrays = {}
  for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
    path = trees.path_name(keys)
    if path.startswith(_TRAINING_ONLY) and form is not zsar.ZSAR:
      continue
    found = form.table.to_theirs(path)
    if found is None:
      raise UserError(
        f'{form.name} has no place for {path}, so this model cannot be written as one; --to=zsar'
        ' keeps everything'
      )
    key, layout = found
    arrays[key] = np.asarray(layout.save(np.asarray(leaf)), np.float32, order='C')
  return arrays


@contextlib.contextmanager
def _whole(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path to write to, which becomes `out` if all goes well and vanishes if not."""
  make_folder(out.absolute().parent, str(out))
  partial = out.with_name(f'.{out.name}.{os.getpid()}')
  try:
    yield partial
    partial.rename(out)
  except OSError as error:
    raise UserError(f'{out}: not written ({error_reason(error)})') from None
  finally:
    if partial.is_dir():
      shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
