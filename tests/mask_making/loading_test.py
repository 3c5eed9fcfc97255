"""Models are loaded from a folder as they were saved, and what is missing is named."""

import importlib.util
import json
import pickle
import re

import pytest

pytest.importorskip('torchvision')
pytest.importorskip('transformers')

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from tests.mask_making import tiny_models  # noqa: E402
from zsar_jax.errors import UserError  # noqa: E402
from zsar_jax.mask_making import loading  # noqa: E402

FAMILIES = {'rf_detr': loading.Family('RfDetrForInstanceSegmentation', 'AutoImageProcessor')}


@pytest.fixture
def folder(tmp_path):
  return tiny_models.rf_detr(tmp_path / 'tiny')


def load(name, families=FAMILIES, **options):
  return loading.load_model(str(name), families, flag='--person', **options)


def edit(path, **changes):
  """Changes the settings of a JSON file; None removes one."""
  content = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_the_saved_weights_are_loaded_for_inference(folder, tmp_path):
  loaded = load(folder)
  loaded.model.save_pretrained(tmp_path / 'again')
  saved, again = (load_file(path / 'model.safetensors') for path in (folder, tmp_path / 'again'))
  assert saved.keys() == again.keys()
  assert all(torch.equal(saved[name], again[name]) for name in saved)
  assert not loaded.model.training
  assert loaded.config['model_type'] == 'rf_detr'
  assert loaded.provenance['model'] == 'tiny'
  assert loaded.provenance['precision'] == 'float32'
  with loaded.inference():
    pixels = torch.zeros(1, 3, 56, 56)
    assert not loaded.model(pixel_values=pixels).logits.requires_grad


def test_half_precision_weights_become_float32(folder):
  path = folder / 'model.safetensors'
  save_file({name: array.half() for name, array in load_file(path).items()}, path, {'format': 'pt'})
  edit(folder / 'config.json', dtype='float16')
  assert {p.dtype for p in load(folder).model.parameters()} == {torch.float32}


def test_revision_changes_with_every_file_that_changes_the_masks(folder):
  first = load(folder).provenance['revision']
  assert load(folder).provenance['revision'] == first
  (folder / 'README.md').write_text('No part of the model.')
  assert load(folder).provenance['revision'] == first
  edit(folder / 'preprocessor_config.json', image_mean=[0.0, 0.0, 0.0])
  second = load(folder).provenance['revision']
  weights = load_file(folder / 'model.safetensors')
  name = next(iter(weights))
  weights[name] = weights[name] + 1
  save_file(weights, folder / 'model.safetensors', {'format': 'pt'})
  assert len({first, second, load(folder).provenance['revision']}) == 3


@pytest.mark.parametrize(
  ('file', 'fact'),
  [
    ('config.json', 'no config.json'),
    ('model.safetensors', 'no model.safetensors'),
    ('preprocessor_config.json', 'no preprocessor_config.json'),
  ],
)
def test_names_the_missing_file(folder, file, fact):
  (folder / file).unlink()
  with pytest.raises(UserError, match=f'^--person={re.escape(str(folder))}: has {fact}'):
    load(folder)


def test_pickles_are_never_read(folder):
  """Neither beside the safetensors, nor in their place, nor as a shard that their index names."""

  class Bomb:
    def __reduce__(self):
      return (pytest.fail, ('a pickle was executed',))

  weights = folder / 'model.safetensors'
  (folder / 'pytorch_model.bin').write_bytes(pickle.dumps(Bomb()))
  load(folder)
  weights.unlink()
  with pytest.raises(UserError, match='pickled weights are not read'):
    load(folder)
  index = {'metadata': {}, 'weight_map': {'a.weight': 'pytorch_model.bin'}}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(UserError, match='names files that are not safetensors'):
    load(folder)


def test_code_of_a_folder_is_not_executed(folder):
  (folder / 'evil.py').write_text('raise SystemExit("executed")')
  classes = {'AutoConfig': 'evil.Config', 'AutoModel': 'evil.Model'}
  edit(folder / 'config.json', auto_map=classes)
  edit(folder / 'preprocessor_config.json', auto_map={'AutoImageProcessor': 'evil.Processor'})
  load(folder)


@pytest.mark.parametrize(
  ('changes', 'fact'),
  [
    ({'model_type': 'detr'}, 'models of type detr are not supported here; give .* rf_detr'),
    ({'model_type': None}, 'models of type None are not supported'),
    ({'quantization_config': {'quant_method': 'gptq'}}, 'quantization_config'),
    ({'backbone_config': None, 'backbone': 'owner/other'}, 'names a backbone of another model'),
    ({'d_model': 'wide'}, 'cannot load it'),
  ],
)
def test_refuses_configs(folder, changes, fact):
  edit(folder / 'config.json', **changes)
  with pytest.raises(UserError, match=fact):
    load(folder)


def test_refuses_weights_of_another_model(folder):
  """Parameters without weights would be random, and every mask wrong."""
  weights = load_file(folder / 'model.safetensors')
  kept = {name: array for name, array in weights.items() if 'segmentation' not in name}
  assert len(kept) < len(weights)
  save_file(kept, folder / 'model.safetensors', {'format': 'pt'})
  with pytest.raises(UserError, match=r'its weights lack \d+ parameters'):
    load(folder)


@pytest.mark.parametrize('file', ['config.json', 'model.safetensors', 'preprocessor_config.json'])
def test_damaged_files_are_named(folder, file):
  (folder / file).write_bytes(b'\x80 damaged')
  with pytest.raises(UserError, match='damaged|cannot load it'):
    load(folder)


def test_a_path_that_does_not_exist_is_not_looked_up(tmp_path):
  with pytest.raises(UserError, match='is not a folder'):
    load(tmp_path / 'missing')


def test_hub_models_are_downloaded_without_pickles_and_code(folder, tmp_path, monkeypatch):
  import huggingface_hub

  commit = '1f' * 20
  snapshot = folder.rename(tmp_path / commit)
  (snapshot / 'README.md').write_text('---\nlicense: cc-by-nc-4.0\n---\n# Tiny\n')
  calls = []

  def download(repository, **options):
    calls.append((repository, options))
    return str(snapshot)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  loaded = load('owner/tiny@v1')
  ((repository, options),) = calls
  assert (repository, options['revision']) == ('owner/tiny', 'v1')
  assert not [p for p in options['allow_patterns'] if p.endswith(('.bin', '.py', '.pt', '*'))]
  assert loaded.provenance['model'] == 'owner/tiny'
  assert loaded.provenance['revision'] == commit
  assert loaded.licenses['weights'] == 'cc-by-nc-4.0'


def test_an_unreachable_hub_gets_the_remedy(monkeypatch):
  import huggingface_hub

  def fail(*args, **kwargs):
    raise OSError('Name or service not known\nmore')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  with pytest.raises(UserError) as error:
    load('owner/tiny')
  assert str(error.value) == (
    '--person=owner/tiny: is no folder here, and cannot be downloaded from the Hugging Face hub'
    ' (Name or service not known); check the name and your access, or download the folder elsewhere'
    ' and give its path'
  )


def test_missing_packages_are_named(monkeypatch):
  find = importlib.util.find_spec
  absent = ('torch', 'transformers')
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name, *a: None if name in absent else find(name, *a)
  )
  with pytest.raises(UserError) as error:
    load('anything')
  assert str(error.value) == (
    "--person: torch and transformers not installed; pip install -e '.[masks]'"
  )


def test_an_old_transformers_is_reported(folder):
  families = {'rf_detr': loading.Family('ModelOfTheFuture', 'AutoImageProcessor')}
  with pytest.raises(UserError, match=f'transformers {transformers.__version__} does not support'):
    load(folder, families)


def test_devices(folder, monkeypatch):
  monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
  assert loading.choose_device('auto') == torch.device('cpu')
  with pytest.raises(UserError, match='--device=cuda: PyTorch finds 0 GPUs'):
    load(folder, device='cuda')
  monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
  monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
  assert loading.choose_device('auto') == torch.device('cuda', 0)
  assert loading.choose_device('cuda:1') == torch.device('cuda', 1)
  assert loading.choose_device('cpu') == torch.device('cpu')
  with pytest.raises(UserError, match='--device=cuda:2: PyTorch finds 2 GPUs'):
    loading.choose_device('cuda:2')
  with pytest.raises(UserError, match='--device=gpu: give auto, cpu'):
    loading.choose_device('gpu')


def test_out_of_memory_names_the_flag(folder):
  loaded = load(folder)
  with pytest.raises(UserError, match='give a smaller --batch'), loaded.inference():
    raise torch.OutOfMemoryError('CUDA out of memory.')


def test_inputs_that_do_not_fit_the_network_are_named(folder):
  loaded = load(folder)
  with (
    pytest.raises(UserError, match='does not take what its processor gives it .*mat1 and mat2'),
    loaded.inference(),
  ):
    torch.ones(2, 3) @ torch.ones(2, 3)
