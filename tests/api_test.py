"""zsar_jax.load and tools.predict: the numbers of the model itself, from any video."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zsar_jax
from tests.data.video_test import write_video
from tests.models.clip_test import random_params
from tools import predict
from zsar_jax.errors import UserError
from zsar_jax.interop.save import save_weights
from zsar_jax.models.presets import TEMPORAL, VideoSpec, preset
from zsar_jax.models.video_clip import VideoModel
from zsar_jax.ops.photometric import normalise
from zsar_jax.text.tokenizers import make_tokenizer

_LEVELS = [20, 60, 100, 140, 180, 220]


def _weights(folder, kind='mean'):
  model = VideoModel(preset('tiny'), VideoSpec(3, kind, temporal_layers=1))
  params = random_params(model)
  save_weights(params, model, 'zsar', folder, folder)
  return model, params


@pytest.mark.parametrize('kind', TEMPORAL)
def test_zero_shot_is_the_models(tmp_path, kind):
  reference, params = _weights(tmp_path / 'weights', kind)
  video = np.random.default_rng(0).integers(0, 256, (6, 60, 80, 3)).astype(np.uint8)
  classes = ['archery', 'ArmWrestling', 'zumba']
  templates = ('a {}.', 'one doing {}')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words', templates=templates)

  # The centres of three segments; the central square, 224 / 256 of the short side, to 48 pixels.
  side = round(60 * 224 / 256)
  top, left = (60 - side) // 2, (80 - side) // 2
  frames = [
    cv2.resize(frame[top : top + side, left : left + side], (48, 48), interpolation=cv2.INTER_CUBIC)
    for frame in video[[1, 3, 5]]
  ]
  encoded = reference.encode_video(params, normalise(np.stack(frames)[None] / 255.0))
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
  shares = jax.nn.softmax(
    jnp.exp(params['logit_scale']) * reference.similarity(params, encoded, texts)[0]
  )
  ranked = model.zero_shot(video, classes)
  assert [name for name, _ in ranked] == [classes[i] for i in np.argsort(-shares)]
  np.testing.assert_allclose(
    [share for _, share in ranked], np.sort(np.asarray(shares))[::-1], atol=1e-5
  )
  np.testing.assert_allclose(model.encode_video(video), encoded['embedding'][0], atol=1e-5)
  np.testing.assert_allclose(model.encode_text(classes), texts, atol=1e-5)


def test_files_folders_and_arrays_are_one_video(tmp_path):
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
  for video in (path, tmp_path / 'frames'):
    assert np.abs(model.frames(video).astype(int) - expected).mean() < 2
    np.testing.assert_allclose(model.encode_video(video), model.encode_video(array), atol=0.02)
  # Of a video with fewer frames than the model sees, some are seen twice.
  assert model.frames(array[:2]).shape == (4, 48, 48, 3)


def test_refusals(tmp_path):
  _weights(tmp_path / 'weights')
  model = zsar_jax.load(str(tmp_path / 'weights'), tokenizer='words')
  for video, words in (
    (np.zeros((2, 8, 8, 3), np.float32), 'must be u8'),
    (np.zeros((8, 8, 3), np.uint8), 'must be u8'),
    (np.zeros((0, 8, 8, 3), np.uint8), 'must be u8'),
    (tmp_path / 'none.mp4', 'does not exist'),
  ):
    with pytest.raises(UserError, match=words):
      model.zero_shot(video, ['a', 'b'])
  with pytest.raises(UserError, match='two classes or more'):
    model.zero_shot(np.zeros((2, 8, 8, 3), np.uint8), ['a'])
  with pytest.raises(UserError, match='nowhere'):
    zsar_jax.load(str(tmp_path / 'nowhere'))


def test_predict_prints_and_draws(tmp_path, capsys):
  _weights(tmp_path / 'weights')
  path = write_video(tmp_path / 'a.mp4', _LEVELS, 60, 80)
  (tmp_path / 'classes.txt').write_text('archery\nzumba\njumping\n')
  flags = [str(path), f'--checkpoint={tmp_path / "weights"}', '--tokenizer=words']
  predict.main(
    [*flags, f'--classes={tmp_path / "classes.txt"}', '--top=2', f'--picture={tmp_path / "p.png"}']
  )
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3
  shares = [float(line.split()[1]) for line in lines[:2]]
  assert 0 < shares[1] <= shares[0] <= 100
  picture = cv2.imread(str(tmp_path / 'p.png'))
  assert (np.abs(picture.astype(int) - [0xB8, 0x7E, 0x37]).max(-1) < 8).sum() > 500  # A bar.
  for more, words in (
    (['--classes=archery'], 'two classes or more'),
    (['--classes=a,b', '--top=0'], '--top'),
    (['--classes=a,b', '--picture=p.jpg'], '--picture'),
    (['--classes=a,b', '--template=no place'], "'{}'"),
    (['--classes=/nowhere.txt'], '/nowhere.txt'),
  ):
    with pytest.raises(SystemExit) as status:
      predict.main([*flags, *more])
    assert status.value.code == 2
    assert words in capsys.readouterr().err
