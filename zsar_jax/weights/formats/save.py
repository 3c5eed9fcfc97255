"""Writes the parameters of a model in the formats of other codebases and of this project."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import serialization
from safetensors.numpy import save_file

from zsar_jax.errors import UserError
from zsar_jax.models.video_model import Params, VideoModel
from zsar_jax.runtime import trees
from zsar_jax.storage import bucket_requests, buckets
from zsar_jax.storage.files import make_folder
from zsar_jax.text.tokenizers import FILES as TOKENIZER_FILES
from zsar_jax.weights.formats import hugging_face, preprocessor_config, siglip, zsar
from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.preprocessing import CLIP_PREPROCESSING, Preprocessing
from zsar_jax.weights.formats.scenic import SCENIC

TARGETS = ('hf', 'scenic', 'zsar')

# The prefix of parameters that only training uses; other codebases do not have them.
_TRAINING_ONLY = 'distillation/'

# Fields of the preprocessing that the files of each target cannot express.
_OTHER_FIELDS = ('sampling', 'templates', 'split_words', 'placeholders')
_INEXPRESSIBLE = types.MappingProxyType(
  {
    'hf': _OTHER_FIELDS,
    'scenic': ('normalization', 'interpolation', 'resize', 'centre_crop', *_OTHER_FIELDS),
    'zsar': (),
  }
)


def save_weights(
  params: Params,
  model: VideoModel,
  target: str,
  out: pathlib.Path,
  tokenizer: pathlib.Path | None = None,
  preprocessing: Preprocessing = CLIP_PREPROCESSING,
) -> str:
  """Writes parameters; if writing fails, nothing remains.

  Args:
    params: the parameters.
    model: the model.
    target: one of `TARGETS`. 'hf' writes a folder that transformers opens as `XCLIPModel`
      (temporal 'xclip'), `SiglipModel` or `CLIPModel`, 'scenic' a Flax msgpack file with Scenic's
      tree, 'zsar' a folder of this project.
    out: the folder or file, which must not exist.
    tokenizer: a folder; its tokenizer, if any, is copied to the folder of 'hf' or 'zsar'.
    preprocessing: the preprocessing of the model, which 'hf' and 'zsar' write beside the weights.

  Returns:
    Notes for the user, joined by '; '.

  Raises:
    UserError: if `out` exists or cannot be written, or the format does not have a parameter.
  """
  if out.exists():
    raise UserError(f'{out} exists; name another path or remove it')
  fmt = _format(model, target)
  _check_architecture(model, target)
  arrays = _to_theirs(params, fmt)
  with _atomic_output(out) as partial:
    if target == 'scenic':
      tree = {'params': _nest(arrays)}
      partial.write_bytes(serialization.msgpack_serialize(tree))
    else:
      partial.mkdir()
      _write_configs(partial, fmt, model, preprocessing)
      # transformers refuses files without this metadata.
      save_file(arrays, partial / 'model.safetensors', metadata={'format': 'pt'})
      for name in TOKENIZER_FILES:
        if tokenizer is not None and (tokenizer / name).is_file():
          (partial / name).write_bytes((tokenizer / name).read_bytes())
  notes = []
  if fmt in (hugging_face.HF_CLIP, siglip.HF_SIGLIP, SCENIC):
    notes.append(_image_model_note(model.video.temporal))
  return '; '.join([*notes, *_preprocessing_notes(model, target, preprocessing)])


def _nest(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  """Returns the tree of arrays whose keys are joined by '/'."""
  tree: dict[str, Any] = {}
  for key, array in arrays.items():
    *parents, leaf = key.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = array
  return tree


def _write_configs(
  folder: pathlib.Path, fmt: Format, model: VideoModel, preprocessing: Preprocessing
) -> None:
  """Writes the JSON files that describe the model and its preprocessing."""
  if fmt is zsar.ZSAR:
    _write_json(folder / fmt.config_file, zsar.to_json(model.spec, model.video, preprocessing))
  else:
    if fmt is siglip.HF_SIGLIP:
      description = siglip.describe(model.spec)
    else:
      description = hugging_face.describe(model.spec, model.video)
    _write_json(folder / fmt.config_file, description)
    settings = preprocessor_config.to_transformers(model.spec, preprocessing)
    _write_json(folder / preprocessor_config.PREPROCESSOR, settings)


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  path.write_text(f'{json.dumps(value, indent=2)}\n')


def _image_model_note(temporal: str) -> str:
  """Returns a note on the parts of a video model that an image model lacks."""
  if temporal == 'window':
    return (
      'it is an image model: its frames do not attend to each other, so it computes the numbers of'
      " 'mean' instead of 'window'"
    )
  return "it is an image model: the embedding of a clip is the mean of its frames' embeddings"


def _preprocessing_notes(model: VideoModel, target: str, preprocessing: Preprocessing) -> list[str]:
  """Returns a note on preprocessing that differs from CLIP's and that the files do not contain."""
  needed = {'normalization': model.spec.normalization} | dataclasses.asdict(preprocessing)
  usual = {'normalization': 'clip'} | dataclasses.asdict(CLIP_PREPROCESSING)
  values = [
    f'{name} {needed[name]!r}' for name in _INEXPRESSIBLE[target] if needed[name] != usual[name]
  ]
  if not values:
    return []
  return [f'it does not contain {", ".join(values)}, which a user of it must set']


def _format(model: VideoModel, target: str) -> Format:
  if target == 'hf':
    if model.spec.architecture == 'siglip':
      return siglip.HF_SIGLIP
    xclip = model.video.temporal == 'xclip'
    return hugging_face.HF_XCLIP if xclip else hugging_face.HF_CLIP
  return {'scenic': SCENIC, 'zsar': zsar.ZSAR}[target]


def _check_architecture(model: VideoModel, target: str) -> None:
  """Refuses a target whose program would compute other numbers with the same arrays."""
  spec = model.spec
  # Scenic's CLIP has quick GELU, and four-fold MLPs.
  is_openai = spec.architecture == 'clip' and not spec.image_mlp and not spec.text_mlp
  is_siglip = spec.architecture == 'siglip'
  if target == 'hf' and not is_siglip and not hugging_face.is_writable(spec, model.video):
    raise UserError(
      f'--to=hf: transformers has no model with the architecture {spec.architecture!r} and the'
      f' temporal model {model.video.temporal!r} that zsar_jax could write; use --to=zsar'
    )
  if target == 'scenic' and not is_openai:
    raise UserError(
      f"--to=scenic: Scenic's CLIP is that of OpenAI, and would compute other numbers than this"
      f' model (architecture {spec.architecture!r}); use --to=zsar'
    )


def _to_theirs(params: Params, fmt: Format) -> dict[str, np.ndarray]:
  """Returns the arrays in the layouts of a format, by its keys."""
  arrays = {}
  for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
    path = trees.path_name(keys)
    if path.startswith(_TRAINING_ONLY) and fmt is not zsar.ZSAR:
      continue
    match = fmt.table.to_theirs(path)
    if match is None:
      raise UserError(
        f'{fmt.name} has no {path}, so this model cannot be written in this format; use --to=zsar,'
        ' which keeps everything'
      )
    key, layout = match
    arrays[key] = np.asarray(layout.save(np.asarray(leaf)), np.float32, order='C')
  return fmt.restore(arrays)


@contextlib.contextmanager
def _atomic_output(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path, which is renamed to `out` on success and removed on failure."""
  make_folder(out.absolute().parent, str(out))
  if buckets.is_remote(out):
    with tempfile.TemporaryDirectory(prefix='zsar_jax-') as folder:
      partial = pathlib.Path(folder) / out.name
      yield partial
      with buckets.reporting_errors(out, 'OUT'):
        _upload(partial, out)
    return
  partial = out.with_name(f'.{out.name}.{os.getpid()}')
  try:
    yield partial
    partial.rename(out)
  except OSError as error:
    raise UserError(f'{out}: cannot be written ({error.strerror or error})') from None
  finally:
    if partial.is_dir():
      shutil.rmtree(partial)
    partial.unlink(missing_ok=True)


def _upload(source: pathlib.Path, out: Any) -> None:
  """Writes a file or folder to a bucket; nothing remains if that fails."""
  files = {source: out}
  if source.is_dir():
    # The largest first, so that the small file that names the format comes last.
    largest_first = sorted(source.iterdir(), key=lambda path: -path.stat().st_size)
    files = {path: out / path.name for path in largest_first}
  try:
    for file in files.items():  # One after the other, so that no other goes on after a failure.
      bucket_requests.upload([file])
  except BaseException:
    with contextlib.suppress(Exception):  # The bucket may still fail.
      for path in files.values():
        path.unlink(missing_ok=True)
    raise
