"""Loads models of `transformers` for the makers of masks, from the Hugging Face hub or a folder.

A model on the hub is first downloaded as a folder, without pickles and without code, so that both
are checked and loaded in the same way. Nothing in a folder is executed, and loading a folder never
contacts the hub.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import importlib.util
import json
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from zsar_jax.errors import UserError, first_line
from zsar_jax.mask_making.licenses import model_licenses
from zsar_jax.runtime import terminal
from zsar_jax.storage import local_copies
from zsar_jax.storage.paths import as_path

_REMEDY = "pip install -e '.[masks]'"

# The files of a repository on the hub that are downloaded. Pickled weights and code are not.
_FILES = ('*.safetensors', '*.json', '*.txt', '*.model', 'README.md')
# The files of a folder that determine what its model computes.
_HASHED = ('.safetensors', '.json', '.txt', '.model')

_WEIGHTS = 'model.safetensors'
_WEIGHTS_INDEX = 'model.safetensors.index.json'
# Files that describe how inputs are prepared; a folder has at least one of them.
_PROCESSOR_FILES = ('preprocessor_config.json', 'processor_config.json')

# Settings in config.json that would download or unpickle further files.
_REFUSED_SETTINGS = ('quantization_config', 'transformers_weights', 'configuration_files')

# Bytes of a config.json, an index of weights, or a model card that are read at most.
_MAX_TEXT = 1 << 26

_HUB_NAME = re.compile(r'\w[\w.-]*/\w[\w.-]*')


class Family(NamedTuple):
  """The classes of `transformers` that load the models of a `model_type`.

  Attributes:
    model: the name of the class of the model.
    processor: the name of the class that prepares its inputs.
    options: of the processor, in place of what the files state.
  """

  model: str
  processor: str = 'AutoProcessor'
  options: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A model in evaluation mode on its device, with float32 parameters.

  Attributes:
    model: the torch module.
    processor: prepares its inputs.
    config: the content of config.json.
    device: where it is, a torch.device.
    half: whether `inference` computes in bfloat16.
    licenses: {'code': ..., 'weights': ...}.
    provenance: JSON values for `Maker.provenance`. 'notes' describes the machine and the versions,
      which may differ between runs that continue each other; every other key identifies the model.
  """

  model: Any
  processor: Any
  config: dict[str, Any]
  device: Any
  half: bool
  licenses: dict[str, str]
  provenance: dict[str, Any]

  @contextlib.contextmanager
  def inference(self) -> Iterator[None]:
    """Returns the context in which the model is run: no gradients, and bfloat16 where it is fast.

    Raises:
      UserError: the memory of the GPU does not suffice, or the network does not take its inputs.
    """
    import torch

    autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)
    try:
      with torch.inference_mode(), autocast:
        yield
    except torch.OutOfMemoryError as error:
      raise UserError(
        f'--batch: {self.device} has too little memory for a batch; give a smaller --batch or, to'
        f' makers without it, a smaller model ({first_line(error)})'
      ) from None
    except RuntimeError as error:  # Tensors of sizes that do not fit.
      raise UserError(
        f'{self.provenance["model"]}: the network does not take what its processor gives it'
        f' ({first_line(error)}); check that preprocessor_config.json is that of the model'
      ) from error


def require_packages(flag: str) -> None:
  """Checks that the packages of the extra `masks` are installed.

  Raises:
    UserError: names those that are missing.
  """
  packages = ('torch', 'torchvision', 'transformers')
  missing = [name for name in packages if importlib.util.find_spec(name) is None]
  if missing:
    raise UserError(f'{flag}: {" and ".join(missing)} not installed; {_REMEDY}')


def choose_device(name: str = 'auto') -> Any:
  """Returns a torch.device.

  Args:
    name: 'cpu', 'cuda', 'cuda:N', or 'auto', a GPU if there is one.

  Raises:
    UserError: there is no such device.
  """
  require_packages('--device')
  import torch

  count = torch.cuda.device_count() if torch.cuda.is_available() else 0
  if name == 'auto':
    name = 'cuda' if count else 'cpu'
  if name == 'cpu':
    return torch.device('cpu')
  match = re.fullmatch(r'cuda(?::(\d{1,4}))?', name)
  if not match:
    raise UserError(f'--device={name}: give auto, cpu, cuda or cuda:N')
  index = int(match[1] or 0)
  if index >= count:
    raise UserError(
      f'--device={name}: PyTorch finds {count} GPUs; give --device=cpu, or install a build of'
      ' PyTorch for your GPU'
    )
  return torch.device('cuda', index)


def load_model(
  name: str, families: Mapping[str, Family], *, flag: str, device: str = 'auto'
) -> LoadedModel:
  """Loads a model and its processor.

  Args:
    name: a folder with config.json, safetensors and the settings of a processor; or
      'OWNER/MODEL' or 'OWNER/MODEL@REVISION' on the Hugging Face hub.
    families: the supported ones, by `model_type` in config.json.
    flag: the flag that names the model, such as '--person', for errors.
    device: see `choose_device`.

  Raises:
    UserError: a package, a file or the device is missing, the hub cannot be reached, the
      `model_type` is not in `families`, or the weights do not belong to the model.
  """
  require_packages(flag)
  target = choose_device(device)
  field = f'{flag}={name}'
  folder, revision = _find_folder(name, flag)
  config = _check_folder(folder, field)
  model_type = config.get('model_type')
  if not isinstance(model_type, str) or model_type not in families:
    raise UserError(
      f'{field}: models of type {model_type} are not supported here; give one of type'
      f' {", ".join(sorted(families))}'
    )
  model, processor = _load(folder, families[model_type], field)
  card = folder / 'README.md'
  half = uses_bfloat16(target)
  return LoadedModel(
    model=model.to(target),
    processor=processor,
    config=config,
    device=target,
    half=half,
    licenses=model_licenses(model_type, _read_text(card) if card.is_file() else None),
    provenance={
      'model': folder.name if revision is None else name.partition('@')[0],
      'model_type': model_type,
      'revision': revision or folder_checksum(folder),
      'precision': 'bfloat16' if half else 'float32',
      'notes': model_notes(target),
    },
  )


def folder_checksum(folder: pathlib.Path) -> str:
  """Returns a text that differs for folders whose models compute different things."""
  total = hashlib.sha256()
  for path in sorted(folder.iterdir()):
    if path.suffix in _HASHED and path.is_file():
      with open(path, 'rb') as file:
        total.update(f'{path.name}\0{hashlib.file_digest(file, "sha256").hexdigest()}\n'.encode())
  return f'sha256:{total.hexdigest()}'


def uses_bfloat16(device: Any) -> bool:
  """Returns whether a device is a GPU with bfloat16 arithmetic."""
  import torch

  if device.type != 'cuda':
    return False
  with torch.cuda.device(device):
    return torch.cuda.is_bf16_supported(including_emulation=False)


def model_notes(device: Any) -> dict[str, str]:
  """Returns 'notes' of `LoadedModel.provenance`: the device and the versions of the packages."""
  import torch

  name = torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type
  packages = ('torch', 'torchvision', 'transformers')
  return {'device': name, **{package: metadata.version(package) for package in packages}}


def _find_folder(name: str, flag: str) -> tuple[pathlib.Path, str | None]:
  """Returns the folder of a model and its commit on the hub, or None if the user named a folder."""
  path = as_path(name, flag)
  if path.is_dir():
    return local_copies.fetch(path, _weight_files).resolve(), None
  repository, _, revision = name.partition('@')
  if path.exists() or not _HUB_NAME.fullmatch(repository):
    raise UserError(
      f'{flag}={name}: is not a folder; give the folder of a model, or OWNER/MODEL of the Hugging'
      ' Face hub'
    )
  import huggingface_hub

  try:
    with contextlib.redirect_stderr(terminal.raw_stderr()):  # Shows its progress bars.
      folder = huggingface_hub.snapshot_download(
        repository,
        revision=revision or None,
        allow_patterns=list(_FILES),
        ignore_patterns=['*/*'],
      )
  except Exception as error:  # The exceptions depend on its version and its HTTP library.
    raise UserError(
      f'{flag}={name}: is no folder here, and cannot be downloaded from the Hugging Face hub'
      f' ({first_line(error)}); check the name and your access, or download the folder elsewhere'
      ' and give its path'
    ) from None
  return pathlib.Path(folder), pathlib.Path(folder).name  # Named for the commit.


def _weight_files(names: Collection[str]) -> list[str]:
  """Returns the files of a folder that are read."""
  return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)]


def _check_folder(folder: pathlib.Path, field: str) -> dict[str, Any]:
  """Returns the content of config.json in a folder that has all files of a model."""
  if not (folder / 'config.json').is_file():
    raise UserError(f'{field}: has no config.json; give a folder that save_pretrained wrote')
  config = _read_json(folder / 'config.json', field)
  if not any((folder / file).is_file() for file in (_WEIGHTS, _WEIGHTS_INDEX)):
    raise UserError(
      f'{field}: has no {_WEIGHTS}, and pickled weights are not read; convert them by loading the'
      ' model in transformers and calling save_pretrained, or give a revision as OWNER/MODEL@REV'
    )
  if not any((folder / file).is_file() for file in _PROCESSOR_FILES):
    raise UserError(
      f'{field}: has no {_PROCESSOR_FILES[0]}; add that of the model, which says how its inputs are'
      ' prepared'
    )
  if (folder / 'adapter_config.json').exists():
    raise UserError(f'{field}: is an adapter; merge it into its model and give the result')
  for setting in _REFUSED_SETTINGS:
    if config.get(setting) is not None:
      raise UserError(
        f'{field}: {setting} in its config.json is not supported; give the plain model'
      )
  if config.get('backbone') and not config.get('backbone_config'):
    raise UserError(
      f'{field}: its config.json names a backbone of another model; save it with a recent'
      ' transformers, which writes backbone_config'
    )
  if (folder / _WEIGHTS_INDEX).is_file():
    shards = _read_json(folder / _WEIGHTS_INDEX, field).get('weight_map')
    names = set(shards.values()) if isinstance(shards, dict) else {None}
    # A file of another kind would be unpickled.
    if not all(re.fullmatch(r'[\w.-]+\.safetensors', str(shard)) for shard in names):
      raise UserError(f'{field}: {_WEIGHTS_INDEX} names files that are not safetensors')
  return config


def _load(folder: pathlib.Path, family: Family, field: str) -> tuple[Any, Any]:
  """Returns the model and the processor in a folder."""
  import torch
  import transformers

  # Its warnings concern training, and what matters is checked below.
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  try:
    model_class = getattr(transformers, family.model)
    processor_class = getattr(transformers, family.processor)
  except AttributeError as error:
    raise UserError(
      f'{field}: transformers {transformers.__version__} does not support it ({first_line(error)});'
      ' pip install --upgrade transformers'
    ) from None
  try:
    processor = processor_class.from_pretrained(
      os.fspath(folder), local_files_only=True, trust_remote_code=False, **family.options
    )
    model, report = model_class.from_pretrained(
      os.fspath(folder),
      local_files_only=True,
      trust_remote_code=False,
      use_safetensors=True,
      dtype=torch.float32,
      output_loading_info=True,
    )
  except Exception as error:  # The files are a stranger's, so it may be of any kind.
    raise UserError(
      f'{field}: transformers {transformers.__version__} cannot load it'
      f' ({type(error).__name__}: {first_line(error)}); download it again, or update transformers'
    ) from error
  # Parameters that the weights lack would have random values.
  if missing := sorted(report['missing_keys']):
    raise UserError(
      f'{field}: its weights lack {len(missing)} parameters, such as {missing[0]}; give a model'
      f' that was saved as {family.model}'
    )
  return model.eval(), processor


def _read_json(path: pathlib.Path, field: str) -> dict[str, Any]:
  try:
    content = json.loads(_read_text(path))
    if not isinstance(content, dict):
      raise ValueError('not an object')
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{field}: {path.name} is damaged ({first_line(error)})') from None
  return content


def _read_text(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return file.read(_MAX_TEXT).decode(errors='replace')
