"""Exported clips: their pixels against those of an external model, interruptions, and the lists."""

import copy
import csv
import fractions
import json

import av
import cv2
import numpy as np
import pytest

from tests.evaluation.pair_evaluation_test import _config  # noqa: F401, the fixture `config`
from tests.inpainted_clips import build, write_clips
from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax import experiment
from zsar_jax.config import dataset_ref
from zsar_jax.errors import UserError
from zsar_jax.evaluation import clip_export, clip_list, external_model
from zsar_jax.evaluation.clip_export import export_clips
from zsar_jax.evaluation.eval_set import EvalSet
from zsar_jax.recipes import language

RECIPES = ('none', 'background=normal,object=#ff8000')


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return build_toy(tmp_path_factory.mktemp('toy'))


def export_config(data_dir, **changes):
  config = toy_config(data_dir, model__temporal='mean', **changes)
  config.view.num_frames, config.view.size = 3, 24
  config.eval.recipes = RECIPES
  config.eval.datasets.toy.classes = 'all'
  return config


def read_mp4(path):
  with av.open(str(path)) as container:
    return np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])


def read_images(path):
  files = sorted(path.iterdir())
  return np.stack([cv2.imread(str(file))[..., ::-1] for file in files])


def read_rows(folder):
  with (folder / 'files.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def files_of(folder):
  """The content of each file below a folder."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


class Recorder:
  """An external model that keeps the frames it gets."""

  def __init__(self):
    self.batches = []

  def score(self, frames, texts):
    self.batches.append(frames)
    return np.zeros((len(frames), len(texts)))


def frames_shown(monkeypatch, config, workdir):
  """Returns what an evaluation shows an external model: u8[R, N * V, T, H, W, 3]."""
  recorder = Recorder()
  monkeypatch.setattr(external_model, '_import_function', lambda name: lambda: recorder)
  config = copy.deepcopy(config)
  config.model.external, config.text.templates = 'some.module:load', ('{}',)
  experiment.run(config, workdir, 'eval')
  count = len(config.eval.recipes)
  return np.stack([np.concatenate(recorder.batches[n::count]) for n in range(count)])


@pytest.mark.parametrize(
  ('kind', 'read', 'changes'),
  [
    ('mp4', read_mp4, {}),
    ('mp4', read_mp4, {'eval__clips': 2, 'eval__crops': 3, 'eval__view_mean': 'logits'}),
    ('png', read_images, {}),
    ('jpg', read_images, {}),
  ],
)
def test_frames_are_those_that_an_external_model_gets(
  data_dir, tmp_path, monkeypatch, kind, read, changes
):
  config = export_config(data_dir, **changes)
  assert export_clips(config, tmp_path / 'out', kind) == {'toy': 22 * (6 if changes else 1)}
  shown = frames_shown(monkeypatch, config, tmp_path / 'run')
  folder = tmp_path / 'out' / 'toy'
  clips = clip_list.load(folder)
  rows = read_rows(folder)
  assert [(row['clip'], row['recipe'], int(row['view'])) for row in rows] == clips.rows()
  assert len({row['file'] for row in rows}) == len(rows)
  for row in rows:
    n = clips.blank.ids.index(row['clip']) * clips.views + int(row['view'])
    expected = shown[clips.blank.recipes.index(row['recipe']), n]
    frames = read(folder / row['file'])
    if kind == 'jpg':
      assert np.abs(frames.astype(int) - expected).mean() < 6
    else:
      np.testing.assert_array_equal(frames, expected)
    # Clip n of the toy data set has 5 + n frames, 12 per second.
    length = 5 + clips.blank.ids.index(row['clip'])
    assert float(row['fps']) == pytest.approx(3 * 12 / length, abs=1e-3)
    if kind == 'mp4':
      with av.open(str(folder / row['file'])) as container:
        rate = container.streams.video[0].average_rate
      assert rate == fractions.Fraction(float(row['fps'])).limit_denominator(1000)
  # The same command writes the same bytes.
  export_clips(config, tmp_path / 'again', kind)
  assert files_of(tmp_path / 'again') == files_of(tmp_path / 'out')


def test_an_interrupted_export_goes_on(data_dir, tmp_path, monkeypatch, capsys):
  config = export_config(data_dir, eval__batch_size=8)
  export_clips(config, tmp_path / 'whole', 'mp4')
  folder = tmp_path / 'cut'
  write, written = clip_export._write_mp4, []

  def write_some(path, frames, fps):
    if len(written) == 18:  # In the second batch.
      raise KeyboardInterrupt
    written.append(path)
    write(path, frames, fps)

  with monkeypatch.context() as patch:
    patch.setattr(clip_export, '_write_mp4', write_some)
    with pytest.raises(KeyboardInterrupt):
      export_clips(config, folder, 'mp4')
  assert not (folder / 'toy' / 'files.csv').exists()
  capsys.readouterr()
  batches = []
  painted_frames = clip_export.painted_frames

  def count_batches(key, batch, recipe):
    batches.append(batch['clip'])
    return painted_frames(key, batch, recipe)

  monkeypatch.setattr(clip_export, 'painted_frames', count_batches)
  export_clips(config, folder, 'mp4')
  assert 'toy: 18 of 22 files are there already' in capsys.readouterr().err
  assert 1 <= len(batches) <= 2  # None of the first batch.
  assert files_of(folder) == files_of(tmp_path / 'whole')
  # A finished export paints nothing.
  batches.clear()
  export_clips(config, folder, 'mp4')
  assert not batches


def test_clips_that_do_not_count_are_left_out(tmp_path):
  """Clips of 16 with inpainted frames: one without masks, and some without a partner."""
  write_clips(tmp_path, count=16, unknown=None)
  build(tmp_path)
  (name,) = (path.name for path in (tmp_path / 'data').iterdir() if path.is_dir())
  config = export_config(tmp_path / 'data')
  split = next((tmp_path / 'data' / name).glob('*/index-*.npz')).stem.removeprefix('index-')
  config.eval.datasets = type(config)({'people': dataset_ref(name, split)})
  config.eval.recipes = ('none', 'person=inpaint', 'background=swap')
  export_clips(config, tmp_path / 'out', 'png')
  clips = clip_list.load(tmp_path / 'out' / 'people')
  assert clips.blank.inpainted_scenes
  counts = [sum(recipe == name for _, name, _ in clips.rows()) for recipe in clips.blank.recipes]
  expected = [int(clips.blank.counted(recipe).sum()) for recipe in clips.blank.recipes]
  assert counts == expected
  assert len(list((tmp_path / 'out' / 'people').glob('*/*/'))) == sum(expected)


def test_verbs_and_objects_are_in_the_list(config, tmp_path):
  with pytest.raises(UserError, match="pairs.classes: all pairs of a verb and .*; take 'all'"):
    export_clips(config, tmp_path / 'out', 'jpg')
  config.eval.datasets.pairs.classes, config.eval.choices = 'all', 3
  export_clips(config, tmp_path / 'out', 'jpg')
  recipes = [language.parse(text) for text in config.eval.recipes]
  expected = EvalSet.open(config, 'pairs', recipes, ()).blank()
  actual = clip_list.load(tmp_path / 'out' / 'pairs').blank
  assert actual.choices == expected.choices == 3
  arrays = expected.pairs.to_arrays()
  assert arrays['pair_counts'].sum() == 22
  for name, array in actual.pairs.to_arrays().items():
    np.testing.assert_array_equal(array, arrays[name])


def test_another_export_in_the_folder_is_refused(data_dir, tmp_path):
  config = export_config(data_dir)
  export_clips(config, tmp_path, 'mp4')
  for field, value in (('view.size', 32), ('eval.recipes', ('none',)), ('eval.crops', 3)):
    other = export_config(data_dir)
    other.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match='clips.json lists an export of other clips, recipes or'):
      export_clips(other, tmp_path, 'mp4')
  with pytest.raises(UserError, match='name another folder'):
    export_clips(config, tmp_path, 'png')
  config.data.workers, config.eval.batch_size = 0, 16  # These change no frame.
  export_clips(config, tmp_path, 'mp4')
  config.eval.datasets = type(config)()
  with pytest.raises(UserError, match='config.eval.datasets: it is empty'):
    export_clips(config, tmp_path, 'mp4')


def test_a_codec_that_is_missing(data_dir, tmp_path, monkeypatch):
  monkeypatch.setattr(av, 'codecs_available', {'ffv1'})
  with pytest.raises(UserError, match='--files: PyAV was built without libx264rgb.*--files=png'):
    export_clips(export_config(data_dir), tmp_path, 'mp4')


def test_the_list_says_how_the_clips_were_made(data_dir, tmp_path):
  config = export_config(data_dir, eval__batch_size=16)
  config.eval.recipes = ('none',)
  export_clips(config, tmp_path, 'jpg')
  content = json.loads((tmp_path / 'toy' / 'clips.json').read_text())
  assert (content['format'], content['version']) == ('zsar_jax exported clips', 1)
  assert content['texts'][1][0] == 'a video of moving left.'
  assert content['protocol']['view']['size'] == 24
  assert content['made']['color_seed'] == 0
  assert content['made']['files'] == 'jpg'
  # A list that is read is the list that was written.
  assert json.loads(clip_list.load(tmp_path / 'toy').to_json()) == content


@pytest.fixture(scope='module')
def exported(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('exported')
  export_clips(export_config(data_dir), folder, 'jpg')
  return folder / 'toy'


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda c: None, 'damaged, it is not JSON'),
    (lambda c: [1], 'it is no list of exported clips'),
    (lambda c: c | {'format': 'other'}, 'it is no list of exported clips'),
    (lambda c: c | {'version': 2}, 'version 2, but this program reads 1'),
    (lambda c: {k: v for k, v in c.items() if k != 'texts'}, "the field 'texts' is missing"),
    (lambda c: c | {'dataset': '../../evil'}, "'../../evil' is no name"),
    (lambda c: c | {'classes': c['classes'] * 2}, "classes: 'moving left' occurs twice"),
    (lambda c: c | {'classes': c['classes'][:2]}, 'labels: not all in 0 to 1'),
    (lambda c: c | {'recipes': ['nonsense']}, 'nonsense'),
    (lambda c: c | {'views': 10**9}, 'views: 1000000000 is no number of views'),
    (lambda c: c | {'protocol': {}}, 'protocol: its fields are not view, views, templates'),
    (lambda c: c | {'views': 3000, 'clips': c['clips'] * 400}, 'views: 3000 of 4400 clips under 2'),
    (lambda c: c | {'clips': 5}, 'damaged'),
    (lambda c: c | {'clips': []}, 'clips: it is empty'),
    (lambda c: c | {'clips': [c['clips'][0]] * 2}, "ids: 'validation0' occurs twice"),
    (lambda c: c | {'clips': [c['clips'][0] | {'label': 2**40}]}, 'damaged'),
    (lambda c: c | {'clips': [c['clips'][0] | {'coverage': [0.5]}]}, 'coverage: '),
    (lambda c: c | {'clips': [c['clips'][0] | {'attributes': {'a': 1}}]}, 'attributes: '),
  ],
)
def test_damaged_lists(exported, tmp_path, change, words):
  path = tmp_path / 'clips.json'
  changed = change(json.loads((exported / 'clips.json').read_text()))
  path.write_text('{' if changed is None else json.dumps(changed))
  with pytest.raises(UserError, match=words) as caught:
    clip_list.load(tmp_path)
  assert str(caught.value).startswith(f'{path}: ')
