"""Tests of the gallery: its pictures, and what it says about clips."""

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


def test_pictures_beyond_the_budget_become_links(tmp_path):
  make_study(tmp_path)
  size = (tmp_path / 'gallery' / 'scenes0.jpg').stat().st_size
  pictures = gallery.Pictures(tmp_path, size)
  drawn = [pictures.picture('gallery/scenes0.jpg', 'a clip') for _ in range(2)]
  assert [picture.status for picture in drawn] == ['inside', 'left out']
  assert drawn[0].source.startswith('data:image/jpeg;base64,')
  assert drawn[1].source == 'gallery/scenes0.jpg'
