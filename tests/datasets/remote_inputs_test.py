"""Videos, lists and masks in a bucket: the clips are those of the same files on a disk."""

import dataclasses
import json
import tempfile

import cv2
import numpy as np
import pytest

from tests.bucket_copies import memory_bucket, upload  # noqa: F401  A fixture.
from tests.datasets.video_test import write_video
from zsar_jax.data.records import ClipError, encode_plane
from zsar_jax.datasets import borrowing
from zsar_jax.datasets.mask_comparison import ComparisonTask, compare_clip
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.box_sources import open_boxes
from zsar_jax.datasets.masks.spec import open_masks
from zsar_jax.datasets.sources.folder import list_files, list_folder
from zsar_jax.datasets.sources.kinetics import list_kinetics
from zsar_jax.datasets.sources.ssv2 import list_ssv2
from zsar_jax.datasets.sources.ucf_hmdb import list_hmdb51
from zsar_jax.datasets.video import Storage
from zsar_jax.datasets.video_builder import VideoBuilder, encode_task
from zsar_jax.datasets.video_reading import read_video
from zsar_jax.errors import UserError
from zsar_jax.mask_making.work import list_videos, load_clip, with_boxes
from zsar_jax.recipes.regions import PERSON
from zsar_jax.storage import bucket_requests

SIZE = (48, 64)
FRAMES = 6

# Masks that `_write_masks` writes. The last ones are damaged, so that their errors are compared.
MASKS = (
  'grey:{}/grey',
  'palette:{}/objects,values=*:object',
  'arrays:{}/arrays',
  'coco:{}/coco',
  'coco:{}/all.json',
  'coco:{}/results.json,images={}/images.json,first=0',
  'yolo:{}/yolo',
  'yolo:{}/flat',
  'made:{}/made',
  'grey:{}/damaged',
  'yolo:{}/without_size',
)


def _write_masks(root):
  mask = np.zeros(SIZE, np.uint8)
  mask[8:24, 4:20] = 255
  polygon = {'segmentation': [[4, 8, 20, 8, 20, 24]], 'bbox': [4, 8, 16, 16], 'score': 1}
  images, annotations = [], []
  for clip in ('a', 'c'):
    folders = {name: root / name / 'x' / clip for name in ('grey', 'objects', 'yolo', 'damaged')}
    for number in range(FRAMES):
      for path in (folders['grey'], folders['objects'] / '007', folders['damaged']):
        path.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path / f'{number:05d}.png'), mask)
      (folders['damaged'] / '00003.png').write_bytes(b'no picture')
      image = {'id': len(images), 'file_name': f'x/{clip}/{number:05d}.jpg'}
      image |= {'height': SIZE[0], 'width': SIZE[1]}
      images.append(image)
      annotations.append({'id': image['id'], 'image_id': image['id'], 'category_id': 1, **polygon})
      line = '0 0.1 0.1 0.5 0.1 0.5 0.5'
      for path in (folders['yolo'] / f'{number}.txt', root / 'flat' / f'{clip}_{number + 1}.txt'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line)
      path = root / 'without_size' / f'{clip}_{number + 1}.txt'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(f'{line}\n0 0.1 0.1 0.1 0.1 0.1 0.1\n')
    (root / 'arrays' / 'x').mkdir(parents=True, exist_ok=True)
    np.savez(root / 'arrays' / 'x' / f'{clip}.npz', person=np.stack([mask > 0] * FRAMES))
    (root / 'coco' / 'x').mkdir(parents=True, exist_ok=True)
    own = [n for n, image in enumerate(images) if image['file_name'].startswith(f'x/{clip}/')]
    content = {
      'images': [images[n] for n in own],
      'annotations': [annotations[n] for n in own],
      'categories': [{'id': 1, 'name': 'person'}],
    }
    (root / 'coco' / 'x' / f'{clip}.json').write_text(json.dumps(content))
  content = {'images': images, 'annotations': annotations, 'categories': content['categories']}
  (root / 'all.json').write_text(json.dumps(content))
  (root / 'results.json').write_text(json.dumps(annotations))
  (root / 'images.json').write_text(json.dumps(content | {'annotations': []}))
  _write_made(root, mask)


def _write_made(root, mask):
  settings = {'regions': ['person'], 'maker': 'stub', 'licenses': {}}
  (root / 'made').mkdir()
  made_files.write_settings(root / 'made', settings)
  video = read_video(root / 'videos' / 'x' / 'a.mp4', Storage()).facts
  plane = encode_plane(np.where(mask, np.uint8(PERSON), np.uint8(0)))
  clip = made_files.MadeClip(
    FRAMES, video.kept, *SIZE, video.thumbnails, (made_files.MadeFrame(plane, 1),) * FRAMES
  )
  path = made_files.clip_path(root / 'made', 'x/a')
  made_files.write_clip(path, clip, made_files.settings_checksum(settings))


@pytest.fixture(name='root', scope='module')
def _root(tmp_path_factory):
  """Videos a and b, a folder of frames c, and an empty file d; masks of a and c."""
  root = tmp_path_factory.mktemp('inputs')
  for number, name in enumerate('ab'):
    write_video(root / 'videos' / 'x' / f'{name}.mp4', [9 * n + number for n in range(FRAMES)])
  (root / 'videos' / 'x' / 'd.mp4').touch()
  (root / 'videos' / 'x' / 'notes.txt').write_text('no video')
  frames = root / 'videos' / 'x' / 'c'
  frames.mkdir()
  for number in range(FRAMES):
    cv2.imwrite(str(frames / f'{number:05d}.png'), np.full((*SIZE, 3), 20 * number, np.uint8))
  (frames / '00002.png').write_bytes(b'no picture')
  _write_masks(root)
  return root


@pytest.fixture(name='url')
def _url(root, bucket):
  return upload(root, f'{bucket}/inputs')


def _encode(root, masks, keep='all'):
  """Returns what becomes of each clip, and where else its files are named, with ROOT for `root`."""
  source = open_masks(masks.format(root, root))
  listing = list_folder(f'{root}/videos')
  with tempfile.TemporaryDirectory() as out:
    builder = VideoBuilder(out, 'mine', listing, Storage(keep=keep), [source])
  results = []
  for task in builder.tasks()['train']:
    try:
      results.append(dataclasses.asdict(encode_task(task)))
    except ClipError as error:
      results.append((error.reason, error.missing))
  text = repr((results, builder.parameters, listing, source.parameters))
  return text.replace(str(root), 'ROOT')


@pytest.mark.parametrize('masks', MASKS)
def test_clips_of_a_bucket_are_those_of_a_disk(root, url, masks):
  keep = 'segments:3' if 'yolo' in masks else 'all'
  local, remote = _encode(root, masks, keep), _encode(url, masks, keep)
  assert remote == local
  assert 'zsar_jax-' not in remote
  assert "'regions': [b" in local or 'damaged' in masks


def test_copies_are_deleted_and_lists_are_read_once(url, monkeypatch, tmp_path):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  listed = []
  list_tree = bucket_requests.list_tree
  monkeypatch.setattr(
    bucket_requests, 'list_tree', lambda path: listed.append(str(path)) or list_tree(path)
  )
  _encode(url, 'arrays:{}/arrays')
  assert not list(tmp_path.glob('zsar_jax-*'))
  # Each folder once, and the clip that is a folder of frames.
  assert sorted(listed) == [f'{url}/arrays', f'{url}/videos', f'{url}/videos/x/c']


def test_a_failing_bucket_fails_the_build_and_not_the_clip(url, monkeypatch):
  def fail(paths):
    raise bucket_requests.UnreachableError('memory://b cannot be reached')

  monkeypatch.setattr(bucket_requests, 'read_objects', fail)
  with pytest.raises(bucket_requests.UnreachableError):
    _encode(url, 'grey:{}/grey')


def test_expired_credentials_are_no_full_disk(url, monkeypatch):
  def fail(paths):
    raise PermissionError('The provided token has expired.')

  monkeypatch.setattr(bucket_requests, 'read_objects', fail)
  with pytest.raises(UserError, match=f'^{url}/.*: there are no valid credentials .*token'):
    _encode(url, 'grey:{}/grey')


def test_a_video_that_vanished(url):
  with pytest.raises(ClipError, match=f'{url}/videos/x/none.mp4 does not exist') as caught:
    read_video(f'{url}/videos/x/none.mp4', Storage())
  assert caught.value.missing


def test_objects_are_not_written_outside_of_the_copy(bucket, tmp_path, monkeypatch):
  monkeypatch.setattr(
    bucket_requests, 'list_tree', lambda _: {'../../outside.png': {}, '00000.png': {}}
  )
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'a'))
  (tmp_path / 'a').mkdir()
  read_objects = bucket_requests.read_objects

  def read(paths):
    return [b'x'] * len(paths) if '.png' in str(paths[0]) else read_objects(paths)

  monkeypatch.setattr(bucket_requests, 'read_objects', read)
  with borrowing.borrow(f'{bucket}/clip') as copy:
    assert [path.name for path in tmp_path.rglob('*.png')] == ['00000.png']
    assert copy.startswith(str(tmp_path))


def test_comparing_masks(root, url):
  def compare(root):
    clip = next(clip for clip in list_videos(f'{root}/videos') if clip.id == 'a')
    sides = [open_masks(text.format(root)) for text in ('grey:{}/grey', 'yolo:{}/yolo')]
    masks = [side.for_clip(clip) for side in sides]
    return compare_clip(ComparisonTask(clip, *masks, ('person',), Storage()))

  assert compare(url) == compare(root)
  assert compare(url).failure is None


@pytest.mark.parametrize('boxes', ['yolo:{}/flat', 'coco:{}/coco', '{}/boxes.json'])
def test_boxes_of_masks_to_make(root, url, boxes, tmp_path):
  corners = {'x1': 10, 'y1': 20, 'x2': 100, 'y2': 120}
  frame = {'name': 'a/0002.jpg', 'labels': [{'standard_category': 'hand', 'box2d': corners}]}
  (tmp_path / 'boxes.json').write_text(json.dumps({'a': [frame]}))
  local = str(root)
  if 'boxes' in boxes:
    local, url = str(tmp_path), url
    upload(tmp_path / 'boxes.json', f'{url}/boxes.json')

  def load(folder):
    clips = list_videos(f'{folder}/videos' if folder == url else f'{root}/videos')
    source = open_boxes([boxes.format(folder)], {clip.id for clip in clips})
    work = with_boxes(clips, source)[0]
    return load_clip(work, Storage()).boxes

  assert load(url) == load(local)
  assert any(load(url))


def test_lists_of_clips(root, url, bucket, tmp_path):
  (tmp_path / 'lists').mkdir()
  lists = {
    'k400_train.csv': 'label,youtube_id,time_start,time_end,split\nx,a,0,1,train\n',
    'labels.csv': '0,y\n1,x\n',
    'train.txt': 'x/a.mp4 1\nx/c 6 1\n',
    'labels.json': json.dumps({'Doing something': '0'}),
    'train.json': json.dumps([{'id': 'a', 'template': 'Doing [something]'}]),
    'validation.json': json.dumps([{'id': 'b', 'template': 'Doing [something]'}]),
    'x_test_split1.txt': 'a.mp4 1\nb.mp4 2\n',
    'x_test_split2.txt': 'a.mp4 1\nb.mp4 2\n',
    'x_test_split3.txt': 'a.mp4 1\nb.mp4 2\n',
  }
  for name, text in lists.items():
    (tmp_path / 'lists' / name).write_text(text)
  remote = upload(tmp_path / 'lists', f'{bucket}/lists')

  def read(lists, videos):
    listings = [
      list_kinetics(videos, [f'{lists}/k400_train.csv'], f'{lists}/labels.csv'),
      list_files(videos, {'train': f'{lists}/train.txt'}, f'{lists}/labels.csv'),
      list_ssv2(videos, lists),
      list_hmdb51(videos, lists),
    ]
    return repr(listings).replace(str(videos), 'VIDEOS').replace(str(lists), 'LISTS')

  assert read(remote, f'{url}/videos') == read(str(tmp_path / 'lists'), f'{root}/videos')
  with pytest.raises(UserError, match=f'^--annotations: {url} has no csv file'):
    list_kinetics(f'{url}/videos', [url])
  with pytest.raises(UserError, match=f'^--lists: {bucket}/none cannot be read .*No such file'):
    list_files(f'{url}/videos', {'train': f'{bucket}/none'})
  with pytest.raises(UserError, match=f'^--videos: {bucket}/none is not a folder'):
    list_folder(f'{bucket}/none')
  with pytest.raises(UserError, match=f'^--masks: {bucket}/none is not a folder'):
    open_masks(f'grey:{bucket}/none')
  with pytest.raises(UserError, match=f'^--masks: {bucket}/none has no made.json'):
    open_masks(f'made:{bucket}/none')
