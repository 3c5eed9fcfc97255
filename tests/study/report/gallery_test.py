"""Tests of the gallery: its pictures, and what it says about clips."""

import base64

import PIL.Image
import pytest

from tests.study.report.random_study import (
  SMALL,
  first_dataset,
  make_report,
  make_study,
  text_of,
  with_class,
  write_study,
)
from zsar_jax.errors import UserError
from zsar_jax.study.report import gallery, write_report


def test_the_gallery_says_what_is_not_painted_and_not_answered(tmp_path):
  def change(study):
    # An answer with infinite logits has no classes.
    del first_dataset(study)['gallery'][1]['predictions']['none']['none']

  report = make_report(tmp_path, change, **SMALL | {'clips': 2})
  tree = report.tree
  for text in (text_of(tree), report.markdown):
    for sentence in (
      'Not counted: this clip has no masks of what the recipe paints.',
      'Not counted: this clip has no partner to take a background from.',
      '3 of the 8 frames that the model sees have no masks and stay unpainted.',
      'no answer: the logits are not finite, which counts as wrong',
    ):
      assert text.count(sentence) == 1
  not_counted = [part for part in with_class(tree, 'shown') if 'Not counted' in text_of(part)]
  assert not any(part.findall('.//img') or part.findall('.//li') for part in not_counted)


@pytest.mark.parametrize(
  'path', ['../secret.jpg', '/etc/passwd', 'gallery/../../x.jpg', 'C:\\x.jpg', 'link.jpg', 'a\x00b']
)
def test_pictures_outside_the_folder_are_refused(tmp_path, path):
  folder = tmp_path / 'study'
  folder.mkdir()
  (tmp_path / 'secret.jpg').write_bytes(b'\xff\xd8\xff secret')
  (folder / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
  write_study(
    folder,
    lambda study: first_dataset(study)['gallery'][0].update(pictures={'none': path}),
    **SMALL,
  )
  with pytest.raises(UserError, match='outside the folder'):
    write_report(folder)
  assert not (folder / 'report.html').exists()


def test_missing_pictures_are_named_and_other_files_refused(tmp_path):
  gone = {'none': 'gallery/gone.jpg'}
  report = make_report(
    tmp_path, lambda study: first_dataset(study)['gallery'][0].update(pictures=gone), **SMALL
  )
  assert 'gallery/gone.jpg is missing' in report.html
  assert 'gone.jpg' not in report.markdown
  (tmp_path / 'gallery' / 'gone.jpg').write_text('<svg onload="alert(1)"/>')
  with pytest.raises(UserError, match='neither JPEG, PNG nor WebP'):
    write_report(tmp_path)


def with_clips(clips: str):
  """Changes a study so that its gallery has an animation of the first clip."""

  def change(study):
    study['clips'] = clips
    first_dataset(study)['gallery'][0]['clips'] = {'none': 'gallery/a.webp'}

  return change


def write_animation(folder) -> bytes:
  frames = [PIL.Image.new('RGB', (32, 32), color) for color in ('red', 'blue')]
  (folder / 'gallery').mkdir()
  path = folder / 'gallery' / 'a.webp'
  frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)
  return path.read_bytes()


def test_clips_play_inside_the_page_or_beside_it_or_not_at_all(tmp_path):
  for clips in ('inside', 'beside', 'stills'):
    folder = tmp_path / clips
    folder.mkdir()
    content = write_animation(folder)
    tree = make_report(folder, with_clips(clips), **SMALL).tree
    moving = with_class(tree, 'moving')
    source = {
      'inside': f'data:image/webp;base64,{base64.b64encode(content).decode()}',
      'beside': 'gallery/a.webp',
    }
    assert [image.get('src') for image in moving] == ([source[clips]] if clips in source else [])
    # The still frames are there for print, and for readers who want no motion.
    assert len(with_class(tree, 'still')) == len(moving)
    assert len(with_class(tree, 'play')) == 2 * len(moving)
    policy = tree.find("head/meta[@http-equiv='Content-Security-Policy']").get('content')
    assert ("img-src data: 'self' file:;" in policy) == (clips == 'beside')


def test_animations_get_the_room_that_still_frames_leave(tmp_path):
  size = len(write_animation(tmp_path))
  study = make_study(tmp_path, **SMALL)
  with_clips('inside')(study)
  experiment, dataset = study['experiments']['pantomime'], first_dataset(study)
  stills = sum(
    (tmp_path / path).stat().st_size for path in dataset['gallery'][0]['pictures'].values()
  )
  for clip in dataset['gallery']:
    clip.setdefault('clips', {})
  for budget, plays in ((stills + size - 1, False), (stills + size, True)):
    pictures = gallery.Pictures(tmp_path, budget, 'inside')
    painted = [
      part for _, parts in gallery.gallery(experiment, dataset, pictures) for part in parts
    ]
    assert {part.picture.status for part in painted if part.picture} == {'inside'}
    assert any(part.clip for part in painted) == plays


def test_pictures_beyond_the_budget_become_links(tmp_path):
  make_study(tmp_path)
  size = (tmp_path / 'gallery' / 'scenes0.jpg').stat().st_size
  pictures = gallery.Pictures(tmp_path, size)
  drawn = [pictures.picture('gallery/scenes0.jpg', 'a clip') for _ in range(2)]
  assert [picture.status for picture in drawn] == ['inside', 'left out']
  assert drawn[0].source.startswith('data:image/jpeg;base64,')
  assert drawn[1].source == 'gallery/scenes0.jpg'
