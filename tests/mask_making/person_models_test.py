"""Segmenters find the people that the post-processing of `transformers` and torchvision finds."""

import dataclasses
import json
import urllib.error

import numpy as np
import pytest

pytest.importorskip('torchvision')
pytest.importorskip('transformers')

import torch  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402

from tests.mask_making import tiny_models  # noqa: E402
from zsar_jax.errors import UserError  # noqa: E402
from zsar_jax.mask_making import loading, person_models  # noqa: E402

KINDS = ('rf_detr', 'mask2former', 'oneformer', 'eomt', 'eomt_dinov3')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """A tiny model of each kind, without access to the hub."""
  root = tmp_path_factory.mktemp('models')
  return {kind: getattr(tiny_models, kind)(root / kind) for kind in KINDS}


@pytest.fixture(scope='module')
def frames():
  """Frames of two sizes, alternating."""
  rng = np.random.default_rng(0)
  sizes = [(60, 90), (72, 50), (60, 90), (72, 50), (60, 90)]
  return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def open_segmenter(folder, threshold):
  return person_models.open_segmenter(
    str(folder), threshold=threshold, flag='--person', device='cpu'
  )


def middle_score(folder, frames):
  """A threshold between two scores, so that about half of all people are drawn."""
  scores = np.concatenate([people.scores for people in open_segmenter(folder, 0.0)(frames)])
  scores = np.unique(scores)
  assert len(scores) > 3
  middle = len(scores) // 2
  return float(scores[middle - 1] + scores[middle]) / 2


def transformers_masks(kind, processor, outputs, size, threshold):
  """Returns the masks bool[N, H, W], classes and scores of a frame by `transformers`."""
  if kind == 'rf_detr':
    (result,) = processor.post_process_instance_segmentation(
      outputs, threshold=threshold, target_sizes=[size], return_binary_maps=True
    )
  elif kind in ('mask2former', 'oneformer'):
    # OneFormer's own assigns all pixels to instances, see `person_decoding`.
    processor = transformers.Mask2FormerImageProcessor()
    (result,) = processor.post_process_instance_segmentation(
      outputs, threshold=threshold, target_sizes=[size], return_binary_maps=True
    )
  else:
    # Each query by itself, since later instances are drawn over earlier ones.
    result = {'segmentation': [], 'segments_info': []}
    for query in range(outputs.class_queries_logits.shape[1]):
      single = type(outputs)(
        class_queries_logits=outputs.class_queries_logits[:, query : query + 1],
        masks_queries_logits=outputs.masks_queries_logits[:, query : query + 1],
      )
      (part,) = processor.post_process_instance_segmentation(
        single, threshold=threshold, target_sizes=[size]
      )
      if part['segments_info']:
        result['segmentation'].append(part['segmentation'] == 0)
        result['segments_info'] += part['segments_info']
  infos = result['segments_info']
  masks = [np.asarray(mask, bool) for mask, _ in zip(result['segmentation'], infos, strict=False)]
  return masks, [info['label_id'] for info in infos], [info['score'] for info in infos]


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_people_are_those_of_transformers(kind, half, folders, frames):
  """As on a GPU, the network may compute in bfloat16, and its outputs are decoded in float32."""
  threshold = middle_score(folders[kind], frames)
  segmenter = open_segmenter(folders[kind], threshold)
  segmenter._loaded = dataclasses.replace(segmenter._loaded, half=half)
  calls = []
  segmenter._loaded.model.register_forward_hook(
    lambda module, args, inputs, outputs: calls.append((inputs, outputs)), with_kwargs=True
  )
  people = segmenter(frames)
  assert sum(len(inputs['pixel_values']) for inputs, _ in calls) == len(frames)
  dtype = torch.bfloat16 if half else torch.float32
  logits = 'logits' if kind == 'rf_detr' else 'class_queries_logits'
  assert {outputs[logits].dtype for _, outputs in calls} == {dtype}

  # The frames as `transformers` prepares them, each by itself.
  processor = loading.load_model(
    str(folders[kind]), person_models._FAMILIES, flag='--person'
  ).processor
  task = {'task_inputs': ['instance']} if kind == 'oneformer' else {}
  prepared = [processor(images=frame, return_tensors='pt', **task) for frame in frames]
  drawn = 0
  seen = []
  for inputs, outputs in calls:
    for row, pixels in enumerate(inputs['pixel_values']):
      (index,) = [
        index
        for index, own in enumerate(prepared)
        if own['pixel_values'].shape[1:] == pixels.shape
        and torch.allclose(own['pixel_values'][0], pixels, atol=1e-5)
      ]
      seen.append(index)
      if task:
        assert torch.equal(inputs['task_inputs'][row], prepared[index]['task_inputs'][0])
      single = type(outputs)(
        {
          name: value[row : row + 1].float()
          for name, value in outputs.items()
          if name.startswith(('logits', 'pred_masks', 'class_queries', 'masks_queries'))
        }
      )
      size = frames[index].shape[:2]
      masks, labels, scores = transformers_masks(kind, processor, single, size, threshold)
      own = [number for number, label in enumerate(labels) if label == 1]
      union = np.any([np.zeros(size, bool), *(masks[number] for number in own)], 0)
      np.testing.assert_array_equal(people[index].mask, union)
      expected = sorted(scores[number] for number in own)
      np.testing.assert_allclose(sorted(people[index].scores), expected, atol=1e-6)
      drawn += len(own)
  assert sorted(seen) == list(range(len(frames)))
  assert drawn


@pytest.mark.parametrize('kind', KINDS)
def test_frames_alone_have_the_same_people(kind, folders, frames):
  threshold = middle_score(folders[kind], frames)
  segmenter = open_segmenter(folders[kind], threshold)
  together, again = segmenter(frames), segmenter(frames)
  for frame, people, repeated in zip(frames, together, again, strict=True):
    (alone,) = segmenter([frame])
    np.testing.assert_array_equal(people.mask, repeated.mask)
    np.testing.assert_array_equal(people.scores, repeated.scores)
    np.testing.assert_allclose(people.scores, alone.scores, rtol=1e-4)
    # Sums in another order may move single pixels over the threshold.
    assert np.mean(people.mask != alone.mask) < 1e-3


def test_the_class_is_chosen_by_name(folders, frames, tmp_path):
  """The same weights with other names draw another class."""
  threshold = middle_score(folders['rf_detr'], frames)
  masks = []
  for index in range(3):
    labels = {number: f'thing {number}' for number in range(3)} | {index: 'People'}
    folder = tiny_models.rf_detr(tmp_path / str(index), labels)
    masks.append([people.scores.tolist() for people in open_segmenter(folder, threshold)(frames)])
  by_name = [p.scores.tolist() for p in open_segmenter(folders['rf_detr'], threshold)(frames)]
  assert masks[1] == by_name
  assert masks[0] != by_name
  assert masks[2] != by_name


def test_names_of_the_class():
  slots = {number: 'N/A' for number in range(91)} | {1: 'person', 2: 'bicycle'}
  assert person_models.person_classes(slots, 'x') == [1]
  coco = {0: 'person', 1: 'bicycle'}
  assert person_models.person_classes(coco, 'x') == [0]
  synonyms = {0: 'wall', 12: 'person, individual, someone', 13: 'personal computer, PC'}
  assert person_models.person_classes(synonyms, 'x') == [12]


def test_a_model_without_people_is_refused(tmp_path):
  folder = tiny_models.rf_detr(tmp_path / 'm', {0: 'wall', 1: 'sky', 2: 'personal computer'})
  with pytest.raises(UserError, match=r"no class 'person' .*: wall, sky, personal computer\)"):
    open_segmenter(folder, 0.3)


def test_padding_that_cannot_be_reversed_is_refused(folders, tmp_path):
  folder = tiny_models.mask2former(tmp_path / 'm')
  path = folder / 'preprocessor_config.json'
  settings = json.loads(path.read_text()) | {'pad_size': {'height': 256, 'width': 256}}
  path.write_text(json.dumps(settings))
  with pytest.raises(UserError, match='pad_size in its preprocessor_config.json'):
    open_segmenter(folder, 0.3)


@pytest.mark.parametrize('layout', ['processor_config.json', 'preprocessor_config.json'])
def test_oneformer_needs_no_file_of_the_hub(layout, folders, frames, tmp_path):
  """Published models name a file of class names in another repository."""
  folder = tiny_models.oneformer(tmp_path / 'm')
  path = folder / 'processor_config.json'
  settings = json.loads(path.read_text())
  settings['image_processor'] |= {
    'class_info_file': 'coco_panoptic.json',
    'repo_path': 'shi-labs/oneformer_demo',
  }
  path.unlink()
  if layout == 'preprocessor_config.json':  # As earlier versions of transformers saved it.
    settings = {**settings.pop('image_processor'), **settings}
  (folder / layout).write_text(json.dumps(settings))
  (people,) = open_segmenter(folder, 0.0)(frames[:1])
  (expected,) = open_segmenter(folders['oneformer'], 0.0)(frames[:1])
  np.testing.assert_array_equal(people.mask, expected.mask)


class TinyBackbone(torch.nn.Module):
  """Features of one level, with the key of the first level."""

  out_channels = 8

  def __init__(self):
    super().__init__()
    self.first = torch.nn.Conv2d(3, 8, 7, 4, 3)
    self.second = torch.nn.Conv2d(8, 8, 3, 4, 1)

  def forward(self, images):
    return {'0': self.second(self.first(images).relu())}


def tiny_mask_rcnn():
  """A Mask R-CNN with one level of features and random weights."""
  torch.manual_seed(0)
  detection = torchvision.models.detection
  model = detection.MaskRCNN(
    TinyBackbone(),
    num_classes=4,
    min_size=64,
    max_size=128,
    rpn_anchor_generator=detection.rpn.AnchorGenerator(((16, 32),), ((0.5, 1.0),)),
    box_roi_pool=torchvision.ops.MultiScaleRoIAlign(['0'], 7, 2),
    mask_roi_pool=torchvision.ops.MultiScaleRoIAlign(['0'], 14, 2),
    box_detections_per_img=20,
  )
  with torch.no_grad():
    model.roi_heads.box_predictor.cls_score.weight.mul_(20)
    model.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(20)
  return model.eval()


def loaded_mask_rcnn(model):
  return loading.LoadedModel(model, None, {}, torch.device('cpu'), False, {}, {})


def test_mask_rcnn_finds_the_people_of_torchvision(frames):
  reference = tiny_mask_rcnn()
  with torch.no_grad():
    raw = [
      reference([torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in group])
      for group in (frames[::2], frames[1::2])
    ]
  results = [raw[index % 2][index // 2] for index in range(len(frames))]
  threshold = float(np.median([score for result in results for score in result['scores']]))
  segmenter = person_models.TorchvisionSegmenter(loaded_mask_rcnn(tiny_mask_rcnn()), [2], threshold)
  drawn = 0
  for people, result in zip(segmenter(frames), results, strict=True):
    kept = (result['labels'] == 2) & (result['scores'] > threshold)
    masks = (result['masks'][kept, 0] > 0.5).numpy()
    np.testing.assert_array_equal(people.mask, masks.any(0))
    shown = masks.any((1, 2))
    np.testing.assert_allclose(people.scores, result['scores'][kept].numpy()[shown], rtol=1e-5)
    drawn += shown.sum()
  assert drawn


def test_torchvision_models_are_named(monkeypatch):
  with pytest.raises(
    UserError, match='--person=torchvision:resnet50: is not supported; give torch'
  ):
    open_segmenter('torchvision:resnet50', 0.3)

  def fail(*args, **kwargs):
    raise urllib.error.URLError('no network')

  monkeypatch.setattr(torchvision.models._api, 'load_state_dict_from_url', fail)
  with pytest.raises(UserError, match='download https://.*maskrcnn.*pth elsewhere into .*/hub/'):
    open_segmenter('torchvision:maskrcnn_resnet50_fpn', 0.3)


def test_torchvision_weights_are_checked_and_not_unpickled(monkeypatch):
  model = torchvision.models.get_model('maskrcnn_resnet50_fpn', weights=None, weights_backbone=None)
  calls = []

  def load(url, **options):
    calls.append((url, options))
    return model.state_dict()

  monkeypatch.setattr(torchvision.models._api, 'load_state_dict_from_url', load)
  segmenter = open_segmenter('torchvision:maskrcnn_resnet50_fpn', 0.3)
  ((url, options),) = calls
  assert options['check_hash']
  assert options['weights_only']
  assert segmenter.provenance['revision'] == url.rpartition('/')[2]
  assert segmenter._classes == [1]
