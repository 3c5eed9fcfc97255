"""Every maker with a tiny random model, from the command line, on real clips."""

import pathlib

import numpy as np
import pytest

pytest.importorskip('torchvision')

from tests.mask_making import tiny_models, tiny_sam, tiny_text_models
from tools import make_masks
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.video import Storage

_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'

pytestmark = pytest.mark.skipif(not _SHARED.exists(), reason='no ../shared/data')

_LABELS = _SHARED / 'ssv2' / 'annotations'
_BOXES = f'--boxes={_LABELS / "something-else-boxes.json"}'
_WORDS = ['--words=placeholders', f'--annotations={_LABELS}', '--threshold=0.02']

# {name: (videos, flags, with {model} for the folder of a model)}
_MAKERS = {
  'person': ('kinetics400', ['--person={rf_detr}', '--batch=4']),
  'boxes': ('ssv2', [_BOXES, '--object={sam2}', '--batch=8']),
  'track': ('kinetics400', ['--track={sam2_video}', '--person={rf_detr}']),
  'track-boxes': ('ssv2', [_BOXES, '--track={sam2_video}']),
  'dino': ('ssv2', ['--text={dino}', '--object={sam2}', *_WORDS]),
  'owl': ('ssv2', ['--text={owl}', '--object={sam2}', *_WORDS]),
  'sam3': ('ssv2', ['--text={sam3}', '--accept-license', *_WORDS]),
  'motion': ('kinetics400', ['--motion', '--inpaint=telea']),
}


@pytest.fixture(scope='module', name='models')
def _models(tmp_path_factory):
  root = tmp_path_factory.mktemp('models')
  savers = {
    'rf_detr': tiny_models.rf_detr,
    'sam2': tiny_sam.save_sam2,
    'sam2_video': tiny_sam.save_sam2_video,
    'dino': tiny_text_models.grounding_dino,
    'owl': tiny_text_models.owl,
    'sam3': tiny_text_models.sam3,
  }
  for name, save in savers.items():
    (root / name).mkdir()
    save(root / name)
  return {name: str(root / name) for name in savers}


def _masks(out: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in sorted((out / 'clips').rglob('*.masks'))}


@pytest.mark.parametrize('name', _MAKERS)
def test_masks_of_real_clips(name, models, tmp_path, monkeypatch):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  dataset, flags = _MAKERS[name]
  flags = [flag.format(**models) for flag in flags]
  flags += [f'--videos={_SHARED / dataset / "videos"}', '--keep=segments:4', '--short-side=96']
  out = tmp_path / 'masks'
  make_masks.main([*flags, f'--out={out}', '--workers=0'])
  masks = _masks(out)
  assert len(masks) == {'kinetics400': 2, 'ssv2': 7}[dataset]
  settings = made_files.read_settings(out)
  checksum = made_files.settings_checksum(settings)
  for path in sorted((out / 'clips').rglob('*.masks')):
    clip = made_files.read_clip(path, checksum)
    # Frames near annotated ones are preferred, so that those of SSv2 may differ a little.
    kept = Storage(keep='segments:4').select_frames(clip.num_frames)
    assert np.abs(clip.numbers - kept).max() < clip.num_frames / 8
    assert min(clip.height, clip.width) == 96
    for index in range(len(clip.frames)):
      plane = made_files.decode_plane(clip, index)
      assert plane is None or plane.shape == (clip.height, clip.width)

  # The second of two shards alone, then all that is missing, in processes and threads.
  again = tmp_path / 'again'
  make_masks.main([*flags, f'--out={again}', '--workers=0', '--shard=1/2'])
  assert 0 < len(_masks(again)) < len(masks)
  make_masks.main([*flags, f'--out={again}', '--workers=2'])
  assert _masks(again) == masks
