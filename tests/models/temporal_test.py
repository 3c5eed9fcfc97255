import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import reference
from tests.models.clip_test import TINY, frames, random_params
from zsar_jax.errors import UserError
from zsar_jax.models import video_clip


def test_transformer_head_agrees_with_numpy():
  mean = video_clip.VideoModel(TINY, num_frames=3)
  model = video_clip.VideoModel(TINY, num_frames=3, temporal_head='transformer', temporal_layers=2)
  params = random_params(model)
  assert len(params['temporal']['transformer']['resblocks']) == 2
  clips = frames(TINY, clips=2, count=3)
  exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  head = exact['temporal']
  expected = []
  for clip in np.asarray(clips, np.float64):
    x = np.stack([reference.encode_image(frame, exact['visual']) for frame in clip])
    mixed = reference.transformer(x + head['positional_embedding'], head['transformer'])
    expected.append(reference.unit((x + mixed).mean(0)))
  video = jax.jit(model.encode_video)(params, clips)
  np.testing.assert_allclose(video, expected, atol=1e-5)

  del params['temporal']
  without = jax.jit(mean.encode_video)(params, clips)
  assert jnp.max(jnp.abs(without - video)) > 1e-2


@pytest.mark.parametrize(('head', 'blind'), [('mean', True), ('transformer', False)])
def test_which_head_sees_the_order_of_frames(head, blind):
  model = video_clip.VideoModel(TINY, num_frames=4, temporal_head=head, temporal_layers=1)
  params = random_params(model)
  encode = jax.jit(model.encode_video)
  clips = frames(TINY, count=4)
  difference = jnp.max(jnp.abs(encode(params, clips) - encode(params, clips[:, ::-1])))
  assert (difference < 1e-6) if blind else (difference > 1e-3)


def test_heads_are_actionclips_by_default():
  model = video_clip.VideoModel(TINY, num_frames=4, temporal_head='transformer')
  head = model.abstract_params['temporal']
  assert sorted(head['transformer']['resblocks']) == ['0', '1', '2', '3', '4', '5']
  assert head['transformer']['resblocks']['5']['attn']['query']['kernel'].shape == (64, 1, 64)
  assert head['positional_embedding'].shape == (4, 64)


def test_mean_head_has_no_parameters():
  assert 'temporal' not in video_clip.VideoModel(TINY, num_frames=4).abstract_params


def test_unknown_head_is_refused():
  with pytest.raises(UserError, match="no temporal head 'lstm'; choose one of mean, transformer"):
    video_clip.VideoModel(TINY, num_frames=4, temporal_head='lstm')
