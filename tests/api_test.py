"""zsar_jax.load and tools.predict compute the numbers of the model, from any kind of video."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zsar_jax
from tests.datasets.video_test import write_video
from tests.models.towers_test import random_params, tiny
from tools import predict
from zsar_jax import api
from zsar_jax.config import default_config, to_json
from zsar_jax.errors import UserError
from zsar_jax.models.from_config import build_model
from zsar_jax.models.presets import TEMPORAL_MODELS, VideoSpec
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.photometric import normalize
from zsar_jax.text.tokenizers import make_tokenizer
from zsar_jax.weights.checkpoint import Checkpoints
from zsar_jax.weights.formats.hints import PREDICTION, PYTHON
from zsar_jax.weights.formats.save import save_weights

_LEVELS = [20, 60, 100, 140, 180, 220]


def _weights(folder, kind='mean'):
  model = VideoModel(tiny(kind), VideoSpec(3, kind, temporal_layers=1))
  params = random_params(model)
  save_weights(params, model, 'zsar', folder, folder)
  return model, params


@pytest.mark.parametrize('kind', TEMPORAL_MODELS)
def test_zero_shot_equals_the_model(tmp_path, kind):
  reference, params = _weights(tmp_path / 'weights', kind)
  video = np.random.default_rng(0).integers(0, 256, (6, 60, 80, 3)).astype(np.uint8)
  classes = ['archery', 'ArmWrestling', 'zumba']
  templates = ('a {}.', 'one doing {}')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words', templates=templates)

  # The center frame of each of three segments; its central square, resized to 48 pixels.
  frames = [
    cv2.resize(frame[:, 10:70], (48, 48), interpolation=cv2.INTER_CUBIC)
    for frame in video[[1, 3, 5]]
  ]
  encoded = reference.encode_video(params, normalize(np.stack(frames)[None] / 255.0))
  tokenizer = make_tokenizer('words', 4096, 32)
  names = ['archery', 'Arm Wrestling', 'zumba']
  texts = jnp.mean(
    jnp.stack(
      [
        reference.encode_text(params, tokenizer([template.format(name) for name in names]))
        for template in templates
      ]
    ),
    axis=0,
  )
  cosines = reference.similarity(params, encoded, texts)[0]
  probabilities = jax.nn.softmax(jnp.exp(params['logit_scale']) * cosines)
  ranked = model.zero_shot(video, classes)
  assert [name for name, _ in ranked] == [classes[i] for i in np.argsort(-probabilities)]
  np.testing.assert_allclose(
    [value for _, value in ranked], np.sort(np.asarray(probabilities))[::-1], atol=1e-5
  )
  np.testing.assert_allclose(model.encode_video(video), encoded['embedding'][0], atol=1e-5)
  np.testing.assert_allclose(model.similarity(video, classes), cosines, atol=1e-5)
  if kind != 'xclip':
    texts /= jnp.linalg.norm(texts, axis=-1, keepdims=True)
  np.testing.assert_allclose(model.encode_text(classes), texts, atol=1e-5)


def test_nothing_is_compiled_or_encoded_again(tmp_path, monkeypatch):
  _weights(tmp_path / 'weights')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words', templates=('a {}.', '{}'))
  video = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3)).astype(np.uint8)
  names = [f'class {number}' for number in range(70)]
  several = model.encode_text(names)  # In two chunks.
  np.testing.assert_allclose(np.linalg.norm(several, axis=-1), 1, atol=1e-5)
  few = model.encode_text(names[62:68])
  np.testing.assert_allclose(few, several[62:68], atol=1e-5)

  encoded = []
  monkeypatch.setattr(
    api, '_encode_texts', lambda *args, encode=api._encode_texts: encoded.append(1) or encode(*args)
  )
  first = model.zero_shot(video, names[:5])
  with pytest.MonkeyPatch.context() as patch:
    # Tracing a function needs the model's graph.
    patch.setattr(model.model, '_graphdef', None)
    assert model.zero_shot(video, names[:5]) == first
    model.encode_video(video[::-1])
    assert len(encoded) == 1
    model.encode_text(names[:7])
    assert len(encoded) == 2
  embeddings = model.encode_text(names[:7])
  embeddings[:] = 0
  assert model.encode_text(names[:7]).any()


def test_the_texts_of_a_run_are_used(tmp_path):
  config = default_config()
  config.model.preset, config.view.size, config.view.num_frames = 'tiny', 48, 2
  config.text = dict(
    tokenizer='words', templates=('one doing {}',), split_words=False, placeholders='drop'
  )
  config.data.train.classes = ('a', 'b')
  model = build_model(config)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {'params': model.init(jax.random.key(0))}, {})
  (tmp_path / 'config.json').write_text(to_json(config))
  texts = zsar_jax.load(tmp_path).texts
  assert texts.templates == ('one doing {}',)
  assert (texts.split_words, texts.placeholders) == (False, 'drop')
  assert zsar_jax.load(tmp_path, templates='a {}.').texts.templates == ('a {}.',)


def test_a_video_may_be_a_file_a_folder_or_an_array(tmp_path, monkeypatch):
  _weights(tmp_path / 'weights')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words', num_frames=4)
  assert model.model.video.num_frames == 4
  path = write_video(tmp_path / 'a.mkv', _LEVELS, 60, 80, codec='ffv1', pix_fmt='bgr0')
  array = np.zeros((6, 60, 80, 3), np.uint8)
  array[:, :, 40:] = np.array(_LEVELS)[:, None, None, None]
  (tmp_path / 'frames').mkdir()
  for number, frame in enumerate(array):
    cv2.imwrite(str(tmp_path / 'frames' / f'{number}.png'), frame)
  expected = model.frames(array)
  assert expected.shape == (4, 48, 48, 3)
  ends = dataclasses.replace(model, view=dataclasses.replace(model.view, sampling='ends'))
  monkeypatch.setenv('HOME', str(tmp_path))
  for video in (path, '~/a.mkv', tmp_path / 'frames', array):  # Frames 0, 1, 3 and 5 of six.
    levels = ends.frames(video)[:, 24, 40, 0]
    np.testing.assert_allclose(levels, [20, 60, 140, 220], atol=2)
  for video in (path, tmp_path / 'frames'):
    assert np.abs(model.frames(video).astype(int) - expected).mean() < 2
    np.testing.assert_allclose(model.encode_video(video), model.encode_video(array), atol=0.02)
  for video in (list(array), jnp.asarray(array)):
    np.testing.assert_array_equal(model.frames(video), expected)
  # If a video has fewer frames than the model needs, some are repeated.
  assert model.frames(array[:2]).shape == (4, 48, 48, 3)


def test_refusals(tmp_path):
  _weights(tmp_path / 'weights')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words')
  for video, words in (
    (np.zeros((2, 8, 8, 3), np.float32), 'must be RGB frames u8'),
    (np.zeros((8, 8, 3), np.uint8), 'must be RGB frames u8'),
    (np.zeros((0, 8, 8, 3), np.uint8), 'must be RGB frames u8'),
    (tmp_path / 'none.mp4', 'does not exist'),
    (None, r'must be RGB frames u8.* or a path, not object\[\]'),
    (
      [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
      'must be RGB frames u8.* not list ',
    ),
    (jnp.zeros((2, 8, 8, 3)), r'not float32\[2, 8, 8, 3\]$'),
  ):
    with pytest.raises(UserError, match=words):
      model.zero_shot(video, ['a', 'b'])
  with pytest.raises(UserError, match='two classes or more'):
    model.zero_shot(np.zeros((2, 8, 8, 3), np.uint8), ['a'])
  diverged = dataclasses.replace(model, params=jax.tree.map(lambda x: x * np.nan, model.params))
  with pytest.raises(UserError, match='scores of this video are not finite'):
    diverged.zero_shot(np.zeros((2, 8, 8, 3), np.uint8), ['a', 'b'])
  with pytest.raises(UserError, match='nowhere'):
    zsar_jax.load(str(tmp_path / 'nowhere'))
  for number in (0, -1, 2.5, '8'):
    with pytest.raises(UserError, match='num_frames: .* at least 1'):
      zsar_jax.load(tmp_path / 'weights', tokenizer='words', num_frames=number)
  for classes, words in (
    ('archery', "classes: 'archery' is a string"),
    (['a', 'b', 'a'], "'a' is repeated 2 times"),
    ([], 'classes: the list is empty'),
    (['a', 1], '1 is not a string'),
  ):
    for use in (model.zero_shot, model.similarity, lambda _, classes: model.encode_text(classes)):
      with pytest.raises(UserError, match=words):
        use(np.zeros((2, 8, 8, 3), np.uint8), classes)


def test_errors_name_the_text_settings_of_the_caller(tmp_path):
  _weights(tmp_path / 'weights')
  (tmp_path / 'tokenizer.json').write_text('{}')
  names = [(PYTHON, 'tokenizer', 'templates'), (PREDICTION, '--tokenizer', '--template')]
  for hints, tokenizer_name, templates_name in names:
    # CLIP's tokenizer has more ids than this model, or is not installed.
    for tokenizer in ('clip', str(tmp_path / 'none'), str(tmp_path)):
      with pytest.raises(UserError, match=f'^{tokenizer_name}: '):
        zsar_jax.load(tmp_path / 'weights', tokenizer=tokenizer, hints=hints)
    model = zsar_jax.load(tmp_path / 'weights', tokenizer='words', templates='a', hints=hints)
    with pytest.raises(UserError, match=f"^{templates_name}: 'a' must contain '{{}}'"):
      model.encode_text(['archery'])


def test_incomplete_tokenizer_files_beside_the_weights(tmp_path):
  _weights(tmp_path / 'weights')
  (tmp_path / 'weights' / 'vocab.json').write_text('{}')
  # CLIP's tokenizer has more ids than this model, or is not installed.
  with pytest.raises(UserError, match="tokenizer: 'clip' (has 49408|needs)"):
    zsar_jax.load(tmp_path / 'weights')
  (tmp_path / 'weights' / 'merges.txt').touch()
  with pytest.raises(UserError, match="weights' is not a CLIP vocabulary"):
    zsar_jax.load(tmp_path / 'weights')


@pytest.mark.parametrize(
  ('field', 'largest', 'others'),
  [
    ('text', 28, {}),  # The context has 32 tokens.
    ('depth', 2, {'text': 1}),
    ('depth', 3, {'image': 1}),
    ('depth', 2, {'image': 1, 'text': 1}),
  ],
)
def test_prompts_for_which_a_tower_has_no_room(field, largest, others):
  config = default_config()
  config.model.preset, config.view.size = 'tiny', 48
  config.model.prompts.update(others | {field: largest})
  build_model(config)
  config.model.prompts[field] = largest + 1
  with pytest.raises(
    UserError, match=f'config.model.prompts.{field}: {largest + 1} .* at most {largest}'
  ):
    build_model(config)


def test_predict_prints_and_draws(tmp_path, capsys):
  _weights(tmp_path / 'weights')
  path = write_video(tmp_path / 'a.mp4', _LEVELS, 60, 80)
  (tmp_path / 'classes.txt').write_text('archery\nzumba\njumping\n')
  flags = [str(path), f'--checkpoint={tmp_path / "weights"}', '--tokenizer=words']
  predict.main(
    [*flags, f'--classes={tmp_path / "classes.txt"}', '--top=2', f'--picture={tmp_path / "p.png"}']
  )
  captured = capsys.readouterr()
  assert f'{tmp_path / "weights"}: zsar, ' in captured.err
  lines = captured.out.splitlines()
  assert len(lines) == 3
  percentages = [float(line.split()[1]) for line in lines[:2]]
  assert 0 < percentages[1] <= percentages[0] <= 100
  picture = cv2.imread(str(tmp_path / 'p.png'))
  assert (np.abs(picture.astype(int) - [0xB8, 0x7E, 0x37]).max(-1) < 8).sum() > 500  # A bar.
  predict.main([*flags, '--classes=a$_$,b$_', f'--picture={tmp_path / "dollars.png"}'])
  predict.main([*flags, '--classes=a,b', '--num-frames=2', f'--tokens-from={tmp_path / "weights"}'])
  assert 'token embedding: its own' in capsys.readouterr().err
  for more, words in (
    (['--classes=a,b', '--num-frames=0'], 'num_frames: 0'),
    (['--classes=a,b', '--checkpoint=nowhere'], '--checkpoint: nowhere does not exist'),
    (['--classes=archery'], 'two classes or more'),
    (['--classes=a,b', '--top=0'], '--top'),
    (['--classes=a,b', '--picture=p.jpg'], '--picture'),
    # Reported before anything is loaded.
    (
      ['--classes=a,b', '--checkpoint=none', f'--picture={path}/p.png'],
      f'--picture: {path} cannot',
    ),
    (['--classes=a,b', '--template=no place'], "'{}'"),
    (['--classes=/nowhere.txt'], '/nowhere.txt'),
  ):
    with pytest.raises(SystemExit) as status:
      predict.main([*flags, *more])
    assert status.value.code == 2
    assert words in capsys.readouterr().err
