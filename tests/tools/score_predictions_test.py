"""Logits of exported clips: the figures against those of an evaluation, and refusals."""

import csv
import json
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.evaluation.clip_export_test import read_images, read_rows
from tests.evaluation.external_model_test import OurModel
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from tools import score_predictions
from zsar_jax import experiment
from zsar_jax.config import dataset_ref
from zsar_jax.errors import UserError
from zsar_jax.evaluation import clip_list, external_model, predictions
from zsar_jax.evaluation.clip_export import export_clips
from zsar_jax.evaluation.evaluator import Evaluator
from zsar_jax.evaluation.run_results import save_results
from zsar_jax.evaluation.scoring import ModelScorer
from zsar_jax.runtime import sharding


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def make_config(data_dir, **changes):
  """Under `background=swap`, only clips whose frames are all annotated count."""
  config = toy_config(data_dir, model__temporal='mean', **changes)
  config.eval.recipes = ('none', 'background=normal', 'background=swap')
  validation = dataset_ref('toy', 'validation'), dataset_ref('toy', 'validation', 'base')
  config.eval.datasets = ConfigDict(dict(zip(('all', 'base'), validation, strict=True)))
  config.eval.groups = ConfigDict({'both': ('all', 'base')})
  return config


def evaluate_ours(config, workdir):
  """Evaluates random weights; returns the content of results.json."""
  ours = OurModel(config)
  mesh = sharding.make_mesh(config.mesh)
  params = jax.device_put(ours.params, sharding.replicated(mesh))
  scorer = ModelScorer(config, ours.model, ours.texts, mesh)
  save_results(Evaluator(config, scorer, mesh, ()).run(params), config.eval.groups, workdir)
  return (workdir / 'results.json').read_text()


def write_csv(path, rows, classes):
  """Writes [clip, recipe, view, logits[C]]; `view` is left out if it is None."""
  views = rows[0][2] is not None
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['version', 'clip', 'recipe', *(['view'] if views else []), *classes])
    for clip, recipe, view, logits in rows:
      writer.writerow([1, clip, recipe, *([view] if views else []), *map(float, logits)])


def write_npz(path, rows, classes):
  names, recipes, _, logits = zip(*rows, strict=True)
  np.savez(path, version=1, clips=names, recipes=recipes, classes=classes, logits=logits)


@pytest.mark.parametrize('write', [write_csv, write_npz])
def test_our_own_logits_give_the_figures_of_an_evaluation(data_dir, tmp_path, write, capsys):
  config = make_config(data_dir)
  expected = evaluate_ours(config, tmp_path / 'ours')
  export_clips(config, tmp_path / 'exported', 'jpg')
  rng = np.random.default_rng(0)
  (tmp_path / 'logits').mkdir()
  for name in config.eval.datasets:
    of_dataset = predictions.load(tmp_path / 'ours' / 'predictions' / f'{name}.npz')
    order = rng.permutation(len(of_dataset.classes))
    rows = [
      (
        row['clip'],
        row['recipe'],
        None,
        of_dataset.logits[row['recipe']][of_dataset.ids.index(row['clip'])][order],
      )
      for row in read_rows(tmp_path / 'exported' / name)
    ]
    rows = [rows[n] for n in rng.permutation(len(rows))]
    suffix = write.__name__[-3:]
    write(tmp_path / 'logits' / f'{name}.{suffix}', rows, np.array(of_dataset.classes)[order])
  flags = [f'--{name}={tmp_path / name}' for name in ('exported', 'logits')]
  score_predictions.main([*flags, f'--out={tmp_path / "theirs"}'])
  assert (tmp_path / 'theirs' / 'results.json').read_text() == expected
  assert 'both (mean and standard deviation over 2)' in capsys.readouterr().out

  # A run of an evaluation or a study that names the folder in the place of weights.
  config.model.preset, config.model.init_from = 'auto', str(tmp_path / 'theirs')
  experiment.run(config, tmp_path / 'again', 'eval')
  assert (tmp_path / 'again' / 'results.json').read_text() == expected
  for folder in ('theirs', 'again'):
    for name in config.eval.datasets:
      ours, theirs = (
        dict(np.load(tmp_path / run / 'predictions' / f'{name}.npz')) for run in ('ours', folder)
      )
      assert ours.keys() == theirs.keys()
      for field, array in ours.items():
        np.testing.assert_array_equal(theirs[field], array)
  assert json.loads((tmp_path / 'again' / 'protocol.json').read_text())['view']['size'] == 16


def test_another_program_reads_the_files(data_dir, tmp_path, monkeypatch):
  """Six views of each clip, scored from PNGs by one program and in memory by another."""
  config = make_config(data_dir, eval__clips=2, eval__crops=3)
  config.eval.datasets = ConfigDict({'all': config.eval.datasets.all})
  config.eval.groups = ConfigDict()
  export_clips(config, tmp_path / 'exported', 'png')
  folder = tmp_path / 'exported' / 'all'
  model = OurModel(config)
  content = json.loads((folder / 'clips.json').read_text())
  texts = np.mean([model.encode_text(row) for row in content['texts']], axis=0)
  texts = external_model.LOGIT_SCALE * texts / np.linalg.norm(texts, axis=1, keepdims=True)
  rows = [
    (
      row['clip'],
      row['recipe'],
      row['view'],
      np.asarray(model.encode_video(read_images(folder / row['file'])[None]))[0] @ texts.T,
    )
    for row in read_rows(folder)
  ]
  write_csv(tmp_path / 'logits.csv', rows, content['classes'])
  score_predictions.main(
    [f'--exported={folder}', f'--logits={tmp_path}/logits.csv', f'--out={tmp_path}/theirs']
  )
  theirs = predictions.load(tmp_path / 'theirs' / 'predictions' / 'all.npz')
  monkeypatch.setattr(external_model, '_import_function', lambda name: lambda: model)
  config.model.external = 'some.module:load'
  experiment.run(config, tmp_path / 'run', 'eval')
  ours = predictions.load(tmp_path / 'run' / 'predictions' / 'all.npz')
  assert ours.ids == theirs.ids
  for recipe in ours.recipes:
    np.testing.assert_allclose(theirs.logits[recipe], ours.logits[recipe], atol=2e-4)
  swapped = ours.counted('background=swap')
  assert 2 < swapped.sum() < len(ours.ids)  # Clips without a partner have no files.


@pytest.fixture(scope='module')
def exported(data_dir, tmp_path_factory):
  """Clips of one data set, and valid logits of them as CSV and npz."""
  folder = tmp_path_factory.mktemp('exported')
  config = make_config(data_dir)
  config.eval.recipes = ('none', 'background=swap')
  config.eval.datasets = ConfigDict({'all': config.eval.datasets.all})
  config.eval.groups = ConfigDict()
  export_clips(config, folder, 'jpg')
  classes = clip_list.load(folder / 'all').blank.classes
  rng = np.random.default_rng(0)
  rows = [
    (row['clip'], row['recipe'], None, rng.normal(size=len(classes)))
    for row in read_rows(folder / 'all')
  ]
  write_csv(folder / 'valid.csv', rows, classes)
  write_npz(folder / 'valid.npz', rows, classes)
  return folder


def run(exported, logits, out):
  score_predictions.main([f'--exported={exported}', f'--logits={logits}', f'--out={out}'])


def test_rows_that_are_not_finite_count_as_wrong(exported, tmp_path, capsys):
  lines = (exported / 'valid.csv').read_text().splitlines()
  for number, value in ((1, 'nan'), (2, '-inf'), (3, '1e99')):
    lines[number] = ','.join([*lines[number].split(',')[:-1], value])
  (tmp_path / 'a.csv').write_text('\ufeff' + '\r\n'.join([*lines, '']))
  run(exported, tmp_path / 'a.csv', tmp_path / 'out')
  words = "the scores of 3 of 11 clips of all under 'none' are not finite; these clips count as"
  assert words in capsys.readouterr().err
  changed, valid = (
    json.loads((tmp_path / out / 'results.json').read_text())['all']['none']['count']
    for out in ('out', 'out')
  )
  assert changed == valid == 11
  scored = predictions.load(tmp_path / 'out' / 'predictions' / 'all.npz')
  assert np.isfinite(scored.logits['none']).all(axis=1).tolist() == [False] * 3 + [True] * 8


CSV_CHANGES = [
  (lambda t: t.replace('version,clip', 'clip,version'), "line 1: it does not begin with 'version,"),
  (lambda t: t.replace(',recipe,', ',recipe,recipe,', 1), "'recipe' is no class of the exported"),
  (
    lambda t: t.replace(',jumping', ',hopping'),
    "the class 'jumping' is missing; give all 5",
  ),
  (lambda t: t.replace(',resting', ',resting,resting'), "the class 'resting' occurs twice"),
  (lambda t: t.replace(',resting', ',resting,sleeping'), "'sleeping' is no class of the exported"),
  (lambda t: t.replace('\r\n1,', '\r\n2,', 1), "line 2: version '2', but this program reads 1"),
  (
    lambda t: t.replace('validation3', 'validation99'),
    "'validation99' is not among those",
  ),
  (lambda t: t.replace(',none,', ',nothing,', 1), "the recipe 'nothing' is none of 'none', 'back"),
  (
    lambda t: t.replace('validation1,none', 'validation0,none'),
    "line 3: there already is a row of clip 'validation0', recipe 'none', view 0; remove one",
  ),
  (
    lambda t: t.replace('validation1,none', 'validation0,background=swap'),
    "clip 'validation0', recipe 'background=swap', view 0 was not exported",
  ),
  (lambda t: re.sub('\r\n1,validation5,none,.*', '', t), "1 of .* are missing.*'validation5', rec"),
  (lambda t: t[: len(t) // 20], 'bytes cannot hold .* rows of 5 classes'),
  (lambda t: t + ' ' * 10**7, 'it is too large for'),
  (
    lambda t: t.replace('\r\n1,validation0,none,', '\r\n1,validation0,none,0,'),
    '9 values, but the',
  ),
  (
    lambda t: re.sub('(validation2,none),[^,]*', r'\1,high', t),
    "'high' of the class 'moving",
  ),
  (
    lambda t: re.sub('(validation2,none),[^,]*', r'\1,', t),
    "line 4: '' of the class 'mov",
  ),
  (lambda t: t.replace('validation2', '"validation2'), 'no CSV in UTF-8'),
  (lambda t: t.replace('validation2', 'validation\udcff'), 'no CSV in UTF-8'),
]


@pytest.mark.parametrize(('change', 'words'), CSV_CHANGES)
def test_wrong_csv_files(exported, tmp_path, capsys, change, words):
  text = change((exported / 'valid.csv').read_bytes().decode())
  path = tmp_path / 'wrong.csv'
  path.write_bytes(text.encode(errors='surrogateescape'))
  with pytest.raises(SystemExit) as status:
    run(exported, path, tmp_path / 'out')
  message = capsys.readouterr().err
  assert status.value.code == 2
  assert message.startswith(f'error: {path}')
  assert message.count('\n') == 1
  assert re.search(words, message), message
  assert not (tmp_path / 'out' / 'results.json').exists()


NPZ_CHANGES = [
  (lambda a: a | {'version': np.array(2)}, "version '2', but this program reads 1"),
  (lambda a: a | {'version': np.array('1')}, r'version: <U1\[\], but it must be integers of shape'),
  (lambda a: {k: a[k] for k in a if k != 'recipes'}, 'recipes: missing, but it must be texts of'),
  (
    lambda a: a | {'logits': a['logits'][:, :3]},
    r'logits: float64\[\d+, 3\], but it must',
  ),
  (lambda a: a | {'logits': a['logits'].astype(int)}, 'logits: int64'),
  (lambda a: a | {'clips': a['clips'][:-1]}, 'clips: <U12'),
  (lambda a: a | {'clips': np.array(a['clips'], object)}, 'it holds Python objects, which are not'),
  (lambda a: a | {'clips': np.roll(a['clips'], 1)}, 'there already is a row|was not exported'),
  (lambda a: a | {'views': np.ones(len(a['clips']), int)}, 'row 0: .* view 1 was not exported'),
  (lambda a: a | {'classes': np.char.upper(a['classes'])}, "the class 'moving left' is missing"),
]


@pytest.mark.parametrize(('change', 'words'), NPZ_CHANGES)
def test_wrong_npz_files(exported, tmp_path, capsys, change, words):
  path = tmp_path / 'wrong.npz'
  np.savez(path, **change(dict(np.load(exported / 'valid.npz'))))
  with pytest.raises(SystemExit):
    run(exported, path, tmp_path / 'out')
  message = capsys.readouterr().err
  assert message.startswith(f'error: {path}')
  assert re.search(words, message), message


def test_wrong_paths(exported, tmp_path, capsys):
  (tmp_path / 'text.txt').touch()
  (tmp_path / 'both').mkdir()
  for suffix in ('csv', 'npz'):
    (tmp_path / 'both' / f'all.{suffix}').touch()
  (tmp_path / 'zip.npz').write_bytes(b'PK')
  for flags, words in (
    ((tmp_path, exported / 'valid.csv'), 'holds no clips.json; name the --workdir of zsar export'),
    ((exported, tmp_path / 'text.txt'), 'ends in none of .csv, .npz'),
    ((exported, tmp_path / 'both'), 'has both of all.csv and all.npz; give one of them'),
    ((exported, tmp_path / 'nowhere'), 'has neither of all.csv and all.npz'),
    ((exported, tmp_path / 'zip.npz'), 'zip.npz: damaged, or no .npz'),
  ):
    with pytest.raises(SystemExit):
      run(*flags, tmp_path / 'out')
    assert words in capsys.readouterr().err


def test_scored_predictions_of_other_clips_are_refused(data_dir, exported, tmp_path):
  """When an evaluation names them in the place of weights."""
  run(exported, exported / 'valid.npz', tmp_path / 'scored')
  config = make_config(data_dir, model__init_from=str(tmp_path / 'scored'))
  config.eval.recipes = ('background=swap',)
  config.eval.groups = ConfigDict()

  def refuse(words):
    with pytest.raises(UserError, match=words) as caught:
      experiment.run(config, tmp_path / 'run', 'eval')
    assert str(caught.value).startswith('config.model.init_from: ')

  refuse('has no predictions for the data set base; leave it out of config.eval.datasets')
  del config.eval.datasets['base']
  assert list(experiment.run(config, tmp_path / 'run', 'eval')['all']) == ['background=swap']
  config.eval.recipes = ('none',)  # Clips have no partners in this evaluation.
  assert experiment.run(config, tmp_path / 'run', 'eval')['all']['none']['count'] == 11
  config.eval.recipes = ('background=normal',)
  refuse("no predictions under 'background=normal'; leave it out of config.eval.recipes")
  config.eval.recipes = ('background=swap',)
  config.eval.datasets.all.pairs = 'rand:1'
  refuse('the clips have other masks or other partners')
  config.eval.datasets.all.classes = 'novel'
  refuse('not evaluated on the same classes')
  config.eval.interpolate = 0.5
  refuse('holds predictions and no weights')
  (tmp_path / 'scored' / 'scored.json').write_text('{}')
  config.eval.interpolate = 0.0
  refuse('scored.json is damaged')
