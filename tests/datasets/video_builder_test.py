"""Another copy of a clip is read if the first cannot be."""

import pytest

from tests.datasets.video_test import LEVELS, write_video
from zsar_jax.data.records import ClipError
from zsar_jax.datasets.sources.listing import ListedClip
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_builder import VideoTask, encode_task


def test_another_copy_is_read_where_the_first_cannot_be(tmp_path):
  (tmp_path / 'a.mp4').write_bytes(b'damaged')
  write_video(tmp_path / 'b.mp4', LEVELS)
  first, *copies = (str(tmp_path / f'{name}.mp4') for name in ('a', 'none', 'b'))

  def encode(*copies):
    clip = ListedClip('a', 0, first, 'a', copies=copies)
    return encode_task(
      VideoTask(clip, masks=None, regions=(), remarks={}, storage=Storage(), folder_fps=30)
    )

  clip = encode(*copies)
  assert len(clip.record['frames']) == len(LEVELS)
  assert clip.remarks == {'another copy was read': f'{copies[-1]} for {first}'}
  with pytest.raises(ClipError, match='a.mp4 cannot be decoded'):
    encode(copies[0])
