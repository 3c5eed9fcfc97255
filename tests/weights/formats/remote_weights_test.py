"""Weights and tokenizers in a bucket are those of the same files on a disk."""

import json

import jax
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

import zsar_jax
from tests.bucket_copies import download, memory_bucket, upload  # noqa: F401  A fixture.
from tests.weights.formats.written import ARRAYS, random_params
from zsar_jax.config import default_config
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model
from zsar_jax.models.presets import PRESETS
from zsar_jax.models.video_model import VideoModel, VideoSpec
from zsar_jax.runtime import sharding
from zsar_jax.storage import bucket_requests, local_copies
from zsar_jax.storage.paths import as_path
from zsar_jax.text.tokenizers import make_tokenizer
from zsar_jax.weights.formats import save, weight_files
from zsar_jax.weights.initial import InitialWeights, source_folder, source_seen_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(local_copies, '_copies_folder', local_copies._copies_folder.__wrapped__)


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """Files and folders of weights of every kind, by name."""
  folder = tmp_path / 'weights'
  for name in ('single', 'shards', 'arrays'):
    (folder / name).mkdir(parents=True)
    (folder / name / 'config.json').write_text(json.dumps({'model_type': name}))
  save_file(ARRAYS, folder / 'single' / 'model.safetensors')
  (folder / 'single' / 'pytorch_model.bin').write_bytes(b'of another program')
  index = {'weight_map': {name: f'part-{name}.safetensors' for name in ARRAYS}}
  (folder / 'shards' / 'model.safetensors.index.json').write_text(json.dumps(index))
  for name, array in ARRAYS.items():
    save_file({name: array}, folder / 'shards' / f'part-{name}.safetensors')
  np.savez(folder / 'arrays' / 'named.npz', **ARRAYS)
  (folder / 'flax').write_bytes(serialization.msgpack_serialize({'params': ARRAYS}))
  return folder


@pytest.mark.parametrize(
  'name',
  [
    'single',
    'single/model.safetensors',
    'shards',
    'shards/model.safetensors.index.json',
    'arrays',
    'arrays/named.npz',
    'flax',
  ],
)
def test_every_kind_of_weights(folder, bucket, name, monkeypatch):
  read = []
  read_ranges = bucket_requests.read_ranges
  monkeypatch.setattr(
    bucket_requests,
    'read_ranges',
    lambda ranges: read.extend(path.name for path, *_ in ranges) or read_ranges(ranges),
  )
  local = weight_files.open_source(str(folder / name), 'SRC')
  remote = weight_files.open_source(upload(folder, f'{bucket}/w') + f'/{name}', 'SRC')
  assert str(remote.path) == f'{bucket}/w/{name}'
  assert remote.content.state.keys() == local.content.state.keys()
  for key, array in local.content.state.items():
    np.testing.assert_array_equal(remote.content.state[key].read(), array.read())
  assert {key: value() for key, value in remote.configs.items()} == {
    key: value() for key, value in local.configs.items()
  }
  assert 'pytorch_model.bin' not in read


def test_what_is_no_weights(bucket, tmp_path):
  (tmp_path / 'none').mkdir()
  for name in ('a.npz', 'b.npz'):
    np.savez(tmp_path / 'none' / name, **ARRAYS)
  (tmp_path / 'none' / 'text').write_text('no weights of any kind')
  url = upload(tmp_path / 'none', f'{bucket}/none')
  with pytest.raises(UserError, match=f'^SRC: {url} holds none of model.safetensors'):
    weight_files.open_source(url, 'SRC')
  with pytest.raises(UserError, match='/none/text: neither safetensors'):
    weight_files.open_source(f'{url}/text', 'SRC')
  with pytest.raises(UserError, match=f'^SRC: {url}/c does not exist'):
    weight_files.open_source(f'{url}/c', 'SRC')


@pytest.mark.parametrize('target', ['hf', 'zsar', 'scenic'])
def test_weights_are_written_into_a_bucket(bucket, tmp_path, target):
  model = VideoModel(PRESETS['tiny'], VideoSpec(3, 'mean'))
  params = random_params(model)
  (tmp_path / 'merges.txt').write_text('m')
  urls = upload(tmp_path / 'merges.txt', f'{bucket}/run/merges.txt')
  tokenizer = as_path(urls, 'SRC').parent
  out = as_path(f'{bucket}/out/model', 'OUT')
  note = save.save_weights(params, model, target, out, tokenizer)
  assert note == save.save_weights(params, model, target, tmp_path / 'model', tmp_path)
  expected = {
    path.relative_to(tmp_path / 'model').as_posix(): path.read_bytes()
    for path in [tmp_path / 'model', *(tmp_path / 'model').rglob('*')]
    if path.is_file()
  }
  if target == 'scenic':
    assert out.read_bytes() == expected['.']
  else:
    assert download(str(out)) == expected
    assert 'merges.txt' in expected
  with pytest.raises(UserError, match=f'^{out} exists'):
    save.save_weights(params, model, target, out, tokenizer)


def test_nothing_remains_of_weights_that_cannot_be_written(bucket, monkeypatch):
  model = VideoModel(PRESETS['tiny'], VideoSpec(3, 'mean'))
  out = as_path(f'{bucket}/out/model', 'OUT')
  put_file = type(out.fs).put_file

  def fail(fs, source, path, **options):
    if path.endswith('.safetensors'):
      raise PermissionError(13, 'Forbidden')
    return put_file(fs, source, path, **options)

  monkeypatch.setattr(type(out.fs), 'put_file', fail)
  with pytest.raises((UserError, PermissionError), match='Forbidden'):
    save.save_weights(random_params(model), model, 'zsar', out)
  assert not download(str(out))


def test_a_model_is_loaded_from_a_bucket(bucket, tmp_path):
  model = VideoModel(PRESETS['tiny'], VideoSpec(3, 'mean'))
  save.save_weights(random_params(model), model, 'zsar', tmp_path / 'own')
  url = upload(tmp_path / 'own', f'{bucket}/own')
  local, remote = (zsar_jax.load(source, tokenizer='words') for source in (tmp_path / 'own', url))
  jax.tree.map(np.testing.assert_array_equal, remote.params, local.params)
  assert remote.view == local.view
  assert f'{url}: zsar' in remote.report.describe()


def test_a_training_starts_from_weights_in_a_bucket(bucket, tmp_path):
  config = default_config()
  config.model.preset, config.view.size, config.view.num_frames = 'tiny', 32, 3
  config.text.tokenizer = 'words'
  model = build_model(config)
  params = random_params(model)
  save.save_weights(params, model, 'zsar', tmp_path / 'start')
  config.model.init_from = upload(tmp_path / 'start', f'{bucket}/start') + '/'
  mesh = sharding.make_mesh(config.mesh)
  template = sharding.sharded_shapes(model.abstract_params, mesh, config.mesh.fsdp_min_bytes)
  initial = InitialWeights(config, model, template)
  jax.tree.map(np.testing.assert_array_equal, initial.load_all(), params)
  assert initial.source_step() is None
  assert source_seen_classes(config.model.init_from) is None


def test_a_tokenizer_in_a_bucket(bucket, tmp_path):
  import tokenizers

  vocab = {'<|startoftext|>': 2, '<|endoftext|>': 3, 'a': 0, 'b</w>': 1}
  library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], end_of_word_suffix='</w>'))
  (tmp_path / 'tokens').mkdir()
  library.save(str(tmp_path / 'tokens' / 'tokenizer.json'))
  url = upload(tmp_path / 'tokens', f'{bucket}/tokens')
  for name in ('', '/tokenizer.json'):
    local = make_tokenizer(f'{tmp_path}/tokens{name}', 100, 8)
    remote = make_tokenizer(f'{url}{name}', 100, 8)
    np.testing.assert_array_equal(remote(['ab', 'b']), local(['ab', 'b']))
  with pytest.raises(UserError, match=f"^tokenizer: '{bucket}/none' is neither 'clip'"):
    make_tokenizer(f'{bucket}/none', 100, 8)


def test_a_folder_without_weights(folder, bucket):
  for url in (upload(folder, f'{bucket}/w').removesuffix('/w'), f'{bucket}/w/single/none'):
    with pytest.raises(UserError, match=f'^SRC: {url} (holds none of|does not exist)'):
      weight_files.open_source(url, 'SRC')


def test_errors_name_the_setting(bucket, monkeypatch):
  def forbid(*_, **__):
    raise PermissionError(13, 'Forbidden')

  url = f'{bucket}/run'
  with monkeypatch.context() as patch:  # The fixture's end asks whether the bucket exists.
    for name in ('exists', 'isdir'):
      patch.setattr(type(as_path(bucket, '').fs), name, forbid)
    with pytest.raises(UserError, match=f'^config.model.init_from: {url}: access is denied'):
      source_folder(url)
    with pytest.raises(UserError, match=f'^config.text.tokenizer: {url}: access is denied'):
      make_tokenizer(url, 100, 8, 'config.text.tokenizer')
