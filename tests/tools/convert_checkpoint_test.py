"""The program that converts weights, also those of a trained run."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import serialization

import zsar_jax
from tests.weights.formats.written import random_params
from tools import convert_checkpoint
from zsar_jax.config import default_config, to_json
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model, model_spec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.training import optim
from zsar_jax.weights.checkpoint import Checkpoints
from zsar_jax.weights.formats import load
from zsar_jax.weights.formats.read import read_weights
from zsar_jax.weights.state import init_state


def run(monkeypatch, *flags):
  monkeypatch.setattr('sys.argv', ['convert_checkpoint', *map(str, flags)])
  convert_checkpoint.main()


@pytest.fixture(name='workdir')
def _workdir(tmp_path):
  """Returns the folder, the model and the parameters of a run."""
  (tmp_path / 'vocabulary').mkdir()
  (tmp_path / 'vocabulary' / 'merges.txt').write_text('m')
  config = default_config()
  config.model.preset = 'tiny'
  config.view.size, config.view.num_frames = 32, 3
  config.text.tokenizer = str(tmp_path / 'vocabulary')
  config.text.templates = ('one doing {}', '{}')
  config.text.split_words = False
  config.view.centre_crop = 0.5
  config.model.normalization = 'imagenet'
  config.data.train.classes = ('a', 'b')
  model = build_model(config)
  params = random_params(model)
  workdir = tmp_path / 'run'
  with Checkpoints(workdir) as checkpoints:
    state = {'params': jax.device_put(params), 'step': jax.numpy.zeros((), int)}
    checkpoints.save(7, state, {})
  (workdir / 'config.json').write_text(to_json(config))
  return workdir, model, params


def test_a_run_is_converted_and_read_back(workdir, tmp_path, monkeypatch, capsys):
  run_dir, model, params = workdir
  run(monkeypatch, '--to=hf', run_dir, tmp_path / 'hf')
  printed = capsys.readouterr().out
  assert f'{run_dir}: zsar, {len(jax.tree.leaves(params))} arrays matched' in printed
  assert f'{tmp_path / "hf"}: written as hf; it is an image model' in printed
  assert (tmp_path / 'hf' / 'merges.txt').read_text() == 'm'

  assert "; it does not contain templates ('one doing {}', '{}'), split_words False" in printed

  run(monkeypatch, '--from=zsar', '--to=scenic', run_dir, tmp_path / 'scenic')
  note = "it does not contain normalization 'imagenet', interpolation 'bilinear', centre_crop 0.5"
  assert note in capsys.readouterr().out
  run(monkeypatch, '--to=zsar', run_dir, tmp_path / 'own')
  run(monkeypatch, '--from=hf', '--to=zsar', tmp_path / 'hf', tmp_path / 'again')
  spec = json.loads((tmp_path / 'own' / 'spec.json').read_text())
  assert spec['clip'] == dataclasses.asdict(model.spec)
  assert spec['video'] == dataclasses.asdict(model.video)
  # The folder contains the preprocessing of the run.
  trained = zsar_jax.load(run_dir, tokenizer='words')
  converted = zsar_jax.load(tmp_path / 'own', tokenizer='words')
  assert converted.view == trained.view
  assert converted.view.centre_crop == 0.5
  assert converted.texts.templates == trained.texts.templates == ('one doing {}', '{}')
  assert not converted.texts.split_words
  for name in ('scenic', 'own', 'run'):
    loaded, _ = load.load_weights(str(tmp_path / name), model, field='SRC')
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
  # The arrays of transformers do not show heads of width 32; its config does.
  loaded, _ = load.load_weights(str(tmp_path / 'again'), model, field='SRC')
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize('averaged', [0, 5])
def test_a_run_that_averages_gives_the_average(averaged, tmp_path, monkeypatch, capsys):
  config = default_config()
  config.model.preset, config.view.size = 'tiny', 32
  # A machine without a GPU cannot compute this model but can read it.
  config.model.attention, config.model.dtype = 'cudnn', 'bfloat16'
  config.text.tokenizer = 'words'
  config.steps = 9
  config.optim.average_every = 1
  config.optim.distillation = 2.0
  config.optim.lr_rules = (('text/.*', 0.0), ('visual/.*', 0.5))
  config.eval.interpolate = 0.25
  config.data.train.classes = ('a', 'b')
  model = VideoModel(*model_spec(config))
  params = random_params(model)
  optimizer, trained = optim.make_optimizer(config.optim, model.abstract_params, config.steps)
  state = init_state(optimizer, trained, True, jax.device_put(params))
  state['average'] = jax.tree.map(lambda x: x + 1, state['average'])
  state['averaged'] = jax.numpy.int32(averaged)
  with Checkpoints(tmp_path / 'run') as checkpoints:
    checkpoints.save(7, state, {})
  (tmp_path / 'run' / 'config.json').write_text(to_json(config))

  run(monkeypatch, '--to=zsar', tmp_path / 'run', tmp_path / 'own')
  printed = capsys.readouterr().out
  note = 'the average of 5 states' if averaged else 'no state has joined the average yet'
  assert f'\n  {note}' in printed
  assert '\n  config.eval.interpolate of the run, 0.25, is not applied' in printed
  for name in ('run', 'own'):
    loaded, report = load.load_weights(str(tmp_path / name), model, field='SRC')
    assert any(note in line for line in report.notes) == (name == 'run')
    for part in ('visual', 'logit_scale', 'text'):
      expected = params[part]
      if averaged and part != 'text':  # The text tower is frozen.
        expected = jax.tree.map(np.ones_like, expected)
      jax.tree.map(np.testing.assert_array_equal, loaded[part], expected)


def test_a_damaged_run(workdir):
  run_dir, _, _ = workdir
  config = run_dir / 'config.json'
  saved = json.loads(config.read_text())
  for content in ('', '[]', '{"model": 1}', json.dumps(saved | {'model': {'colour': 1}})):
    config.write_text(content)
    with pytest.raises(UserError, match='config.json: does not describe the run'):
      read_weights(str(run_dir), 'SRC')
  config.write_text(json.dumps(saved | {'model': saved['model'] | {'preset': 'vit_b16'}}))
  with pytest.raises(UserError, match='a checkpoint of another model'):
    read_weights(str(run_dir), 'SRC')


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--to=hf', 'nowhere', 'out'], 'SRC: nowhere does not exist'),
    (['--to=hf', 'nowhere', '.'], '. exists; name another path'),
    # Of two mistakes, the one that takes no time to find is reported.
    (['--to=hf', 'nowhere', f'{__file__}/x'], f'OUT: {__file__} cannot be a folder'),
    (['--to=hf', '--from=hf', 'SRC', 'out'], 'not those of hf; the format is zsar'),
    (['--to=hf', '--from=xclip', 'SRC', 'out'], 'not those of xclip; the format is zsar'),
    (['--to=torch', 'SRC', 'out'], 'invalid choice'),
    (['SRC', 'out'], '--to'),
  ],
)
def test_mistakes_are_one_sentence(flags, words, workdir, monkeypatch, capsys):
  flags = [str(workdir[0]) if flag == 'SRC' else flag for flag in flags]
  with pytest.raises(SystemExit) as stopped:
    run(monkeypatch, *flags)
  assert stopped.value.code == 2
  assert words in capsys.readouterr().err


def test_left_over_keys_name_the_flag(workdir, tmp_path, monkeypatch, capsys):
  run(monkeypatch, '--to=scenic', workdir[0], tmp_path / 'a')
  tree = serialization.msgpack_restore((tmp_path / 'a').read_bytes())
  del tree['params']['logit_scale']
  (tmp_path / 'b').write_bytes(serialization.msgpack_serialize(tree['params']))
  with pytest.raises(SystemExit):
    run(monkeypatch, '--to=zsar', tmp_path / 'b', tmp_path / 'c')
  assert '; name complete weights' in capsys.readouterr().err
  tree['params']['head'] = {'kernel': np.ones((2, 2), np.float32)}
  tree['params']['logit_scale'] = np.float32(1)
  (tmp_path / 'b').write_bytes(serialization.msgpack_serialize(tree['params']))
  with pytest.raises(SystemExit):
    run(monkeypatch, '--to=zsar', tmp_path / 'b', tmp_path / 'c')
  assert 'also holds head/kernel' in (error := capsys.readouterr().err)
  assert error.rstrip().endswith('; ignore keys with --allow-left-over=REGEX')
  with pytest.raises(SystemExit):
    run(monkeypatch, '--to=zsar', '--preset=vit_b16', tmp_path / 'b', tmp_path / 'c')
  assert "in the preset 'vit_b16'; name the preset of these weights" in capsys.readouterr().err
  run(monkeypatch, '--to=zsar', '--allow-left-over=head/.*', tmp_path / 'b', tmp_path / 'c')
