"""ViCLIP's files are read, and compute the numbers of a PyTorch model that is written here."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.weights.formats import states
from zsar_jax.errors import UserError
from zsar_jax.models.presets import NORMALIZATIONS
from zsar_jax.models.video_model import VideoModel
from zsar_jax.ops.photometric import normalize
from zsar_jax.weights.formats import infer, load
from zsar_jax.weights.formats.read import read_weights

torch = states.torch

_FRAMES, _SIDE, _PATCH, _LENGTH, _VOCABULARY = 3, 24, 8, 12, 60


class Block(torch.nn.Module):
  """A residual block of CLIP."""

  def __init__(self, width):
    super().__init__()
    self.attn = torch.nn.MultiheadAttention(width, width // 64, batch_first=True)
    self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
    self.mlp = torch.nn.ModuleDict(
      {'c_fc': torch.nn.Linear(width, 4 * width), 'c_proj': torch.nn.Linear(4 * width, width)}
    )

  def forward(self, x, mask=None):
    """Maps [N, L, D] to [N, L, D]."""
    y = self.ln_1(x)
    x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
    hidden = self.mlp['c_fc'](self.ln_2(x))
    return x + self.mlp['c_proj'](hidden * torch.sigmoid(1.702 * hidden))


class Tower(torch.nn.Module):
  """What both towers have."""

  def __init__(self, width, positions):
    super().__init__()
    self.positional_embedding = torch.nn.Parameter(torch.zeros(positions, width))
    self.transformer = torch.nn.ModuleDict(
      {'resblocks': torch.nn.ModuleList(Block(width) for _ in range(2))}
    )

  def blocks(self, x, mask=None):
    """Applies the residual blocks."""
    for block in self.transformer['resblocks']:
      x = block(x, mask)
    return x


class VideoTower(Tower):
  """The class token of the first frame, then all patches, each with the position of its frame."""

  def __init__(self, width=192, embed=64):
    super().__init__(width, 1 + (_SIDE // _PATCH) ** 2)
    kernel = (1, _PATCH, _PATCH)
    self.conv1 = torch.nn.Conv3d(3, width, kernel, kernel, bias=False)
    self.class_embedding = torch.nn.Parameter(torch.zeros(width))
    self.temporal_positional_embedding = torch.nn.Parameter(torch.zeros(1, _FRAMES, width))
    self.ln_pre, self.ln_post = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
    self.proj = torch.nn.Parameter(torch.zeros(width, embed))

  def forward(self, video, times):
    """Embeds clips [B, 3, T, H, W]; `times` are the temporal positions [T, D]."""
    patches = self.conv1(video).flatten(3) + self.positional_embedding[1:].T[:, None]
    patches = (patches + times.T[:, :, None]).permute(0, 3, 2, 1).flatten(1, 2)  # [B, M * T, D]
    first = (self.class_embedding + self.positional_embedding[0]).expand(len(video), 1, -1)
    x = self.blocks(self.ln_pre(torch.cat([first, patches], dim=1)))
    return self.ln_post(x[:, 0]) @ self.proj


class TextTower(Tower):
  """CLIP's text tower."""

  def __init__(self, width=128, embed=64):
    super().__init__(width, _LENGTH)
    self.token_embedding = torch.nn.Embedding(_VOCABULARY, width)
    self.ln_final = torch.nn.LayerNorm(width)
    self.text_projection = torch.nn.Parameter(torch.zeros(width, embed))

  def forward(self, tokens):
    """Embeds tokens [C, L]."""
    mask = torch.full((_LENGTH, _LENGTH), -torch.inf).triu(1)
    x = self.blocks(self.token_embedding(tokens) + self.positional_embedding, mask)
    return self.ln_final(x)[torch.arange(len(x)), tokens.argmax(-1)] @ self.text_projection


@pytest.fixture(scope='module')
def theirs():
  torch.manual_seed(0)
  model = torch.nn.ModuleDict({'vision_encoder': VideoTower(), 'text_encoder': TextTower()})
  model.temp = torch.nn.Parameter(torch.tensor(0.02))
  return states.disturbed(model)


@pytest.fixture(scope='module')
def file(theirs, tmp_path_factory):
  path = tmp_path_factory.mktemp('viclip') / 'ViClip-InternVid-10M-FLT.pth'
  torch.save({'model': theirs.state_dict()}, path)
  return path


def unit(x):
  return torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize('count', [_FRAMES, 5])
def test_files_are_read(file, theirs, count):
  weights = read_weights(str(file), 'SRC')
  spec, video = infer.infer_spec(weights)
  assert (video.temporal, video.num_frames, spec.normalization) == ('joint', _FRAMES, 'imagenet')
  assert (spec.context_length, spec.patch, spec.resolution) == (_LENGTH, _PATCH, _SIDE)
  assert weights.preprocessing.resize == 'squash'
  model = VideoModel(spec, dataclasses.replace(video, num_frames=count))
  params, report = load.fit_to_model(weights, model)
  assert report.format == 'viclip'
  assert report.matched == len(jax.tree.leaves(model.abstract_params)), report
  assert not report.missing + report.left_over + report.dropped
  assert len(report.interpolated) == (count != _FRAMES)

  rng = np.random.default_rng(0)
  clips = rng.uniform(size=(2, count, _SIDE, _SIDE, 3)).astype(np.float32)
  tokens = states.tokens(_VOCABULARY, _LENGTH) % _VOCABULARY
  mean, std = map(np.array, NORMALIZATIONS['imagenet'])
  pixels = torch.tensor(((clips - mean) / std).astype(np.float32)).permute(0, 4, 1, 2, 3)
  tower = theirs['vision_encoder']
  # With the frames' own number, this interpolation changes nothing.
  times = tower.temporal_positional_embedding.detach().mT
  times = torch.nn.functional.interpolate(times, count, mode='linear', align_corners=False)[0].T
  with torch.no_grad():
    videos = unit(tower(pixels, times))
    texts = unit(theirs['text_encoder'](torch.tensor(tokens).long()))
    logits = videos @ texts.T / theirs.temp
  encoded = jax.jit(model.encode_video)(params, normalize(clips))
  ours = jax.jit(model.encode_text)(params, tokens)
  np.testing.assert_allclose(encoded['embedding'], videos, atol=1e-5)
  np.testing.assert_allclose(ours, texts, atol=1e-5)
  np.testing.assert_allclose(model.logits(params, encoded, ours), logits, atol=1e-5 / 0.02)
  # Without temporal positions, the result is another.
  visual = params['visual'] | {'temporal_embedding': 0 * params['visual']['temporal_embedding']}
  other = model.encode_video(params | {'visual': visual}, normalize(clips))['embedding']
  assert np.abs(other - videos.numpy()).max() > 1e-3


def test_a_temperature_that_is_not_positive_is_refused(theirs, tmp_path):
  state = theirs.state_dict() | {'temp': torch.tensor(-1.0)}
  torch.save({'model': state}, tmp_path / 'viclip.pth')
  weights = read_weights(str(tmp_path / 'viclip.pth'), 'SRC')
  with pytest.raises(UserError, match='logit_scale contains values that are not finite'):
    load.fit_to_model(weights, VideoModel(*infer.infer_spec(weights)))
