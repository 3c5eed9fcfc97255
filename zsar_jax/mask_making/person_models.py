"""Networks that segment the people in single frames: RF-DETR, Mask2Former, OneFormer, EoMT, and
torchvision's Mask R-CNN.

`person_decoding` turns their outputs into masks.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from zsar_jax.errors import UserError, first_line
from zsar_jax.mask_making.licenses import model_licenses
from zsar_jax.mask_making.loading import (
  Family,
  LoadedModel,
  choose_device,
  load_model,
  model_notes,
  uses_bfloat16,
)
from zsar_jax.mask_making.person_decoding import People, query_decoder, unite

# Names of the class of people. ADE20K's classes are lists of synonyms, of which the first counts.
_CLASS_NAMES = ('person', 'people')

_FAMILIES = {
  'rf_detr': Family('RfDetrForInstanceSegmentation', 'AutoImageProcessor'),
  'mask2former': Family('Mask2FormerForUniversalSegmentation', 'AutoImageProcessor'),
  # Its file of class names is not needed to segment, and would be downloaded.
  'oneformer': Family(
    'OneFormerForUniversalSegmentation', 'OneFormerProcessor', {'class_info_file': None}
  ),
  'eomt': Family('EomtForUniversalSegmentation', 'AutoImageProcessor'),
  'eomt_dinov3': Family('EomtDinov3ForUniversalSegmentation', 'AutoImageProcessor'),
}

TORCHVISION_PREFIX = 'torchvision:'
_TORCHVISION_MODELS = ('maskrcnn_resnet50_fpn', 'maskrcnn_resnet50_fpn_v2')


class PersonSegmenter(Protocol):
  """A network that segments people.

  Attributes:
    licenses: {'code': ..., 'weights': ...}.
    provenance: see `LoadedModel.provenance`.
  """

  licenses: dict[str, str]
  provenance: dict[str, Any]

  def __call__(self, frames: Sequence[np.ndarray]) -> list[People]:
    """Segments the people in frames, which are one batch of the network.

    Args:
      frames: u8[H, W, 3] each, RGB; they may differ in size.

    Raises:
      UserError: the memory of the GPU does not suffice.
    """


def open_segmenter(name: str, *, threshold: float, flag: str, device: str) -> PersonSegmenter:
  """Loads a network that segments people.

  Args:
    name: a model for `loading.load_model`, or 'torchvision:' and the name of a Mask R-CNN, whose
      weights torchvision downloads.
    threshold: the lowest score of a person, from 0 to 1.
    flag: the flag that names the model, for errors.
    device: see `loading.choose_device`.

  Raises:
    UserError: it cannot be loaded, or knows no people.
  """
  if name.startswith(TORCHVISION_PREFIX):
    return TorchvisionSegmenter(*_load_mask_rcnn(name, flag, device), threshold)
  loaded = load_model(name, _FAMILIES, flag=flag, device=device)
  classes = person_classes(loaded.model.config.id2label, f'{flag}={name}')
  return QuerySegmenter(loaded, classes, threshold, f'{flag}={name}')


def person_classes(labels: Mapping[int, str], field: str) -> list[int]:
  """Returns the indices of the classes of people among a model's classes.

  Args:
    labels: the names of the classes.
    field: the flag and the model, for errors.

  Raises:
    UserError: there is none.
  """
  classes = [
    index
    for index, label in sorted(labels.items())
    if str(label).partition(',')[0].strip().lower() in _CLASS_NAMES
  ]
  if not classes:
    first = ', '.join(str(label) for _, label in sorted(labels.items())[:5])
    raise UserError(
      f"{field}: has no class 'person' or 'people' (its first classes: {first}); give a model"
      ' trained on COCO'
    )
  return classes


class QuerySegmenter:
  """A network of `transformers` whose queries each have a distribution over classes and a mask."""

  def __init__(self, loaded: LoadedModel, classes: Sequence[int], threshold: float, field: str):
    """Creates the segmenter.

    Args:
      loaded: a model of one of the supported families.
      classes: the indices of the classes of people.
      threshold: the lowest score of a person.
      field: the flag and the model, for errors.

    Raises:
      UserError: the processor prepares frames in a way that cannot be reversed.
    """
    self.licenses = loaded.licenses
    self.provenance = loaded.provenance
    self._loaded = loaded
    self._classes = list(classes)
    self._threshold = threshold
    self._model_type = loaded.config['model_type']
    images = getattr(loaded.processor, 'image_processor', loaded.processor)
    self._decode = query_decoder(self._model_type, images)
    for setting in ('pad_size', 'do_split_image'):
      if getattr(images, setting, None):
        raise UserError(
          f'{field}: {setting} in its preprocessor_config.json is not supported; give a model for'
          ' instance or panoptic segmentation'
        )

  def __call__(self, frames: Sequence[np.ndarray]) -> list[People]:
    """See `PersonSegmenter`."""
    import torch

    people: dict[int, People] = {}
    with self._loaded.inference():
      classes = torch.tensor(self._classes, device=self._loaded.device)
      for indices, inputs in self._prepared(frames):
        outputs = self._loaded.model(**inputs)
        class_logits = outputs.get('class_queries_logits', outputs.get('logits')).float()
        mask_logits = outputs.get('masks_queries_logits', outputs.get('pred_masks')).float()
        # Computed in float32 from here on, since scores are compared with thresholds.
        with torch.autocast(self._loaded.device.type, enabled=False):
          for row, index in enumerate(indices):
            size = frames[index].shape[:2]
            people[index] = unite(
              self._decode(class_logits[row], mask_logits[row], classes, self._threshold, size),
              size,
              self._loaded.device,
            )
    return [people[index] for index in range(len(frames))]

  def _prepared(self, frames: Sequence[np.ndarray]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yields batches of inputs of the network, each with the indices of its frames.

    Frames of different sizes are prepared separately, since some processors pad the frames that
    they get together to a common size, which their masks would have to be cropped by. Inputs of
    the same size are one batch.
    """
    import torch

    device = self._loaded.device
    prepared: dict[tuple[int, ...], list[tuple[list[int], dict[str, Any]]]] = {}
    for indices in group_by_size(frames):
      stack = torch.from_numpy(np.stack([frames[index] for index in indices])).to(device)
      options: dict[str, Any] = {}
      if self._model_type == 'oneformer':
        options['task_inputs'] = ['instance'] * len(indices)
      inputs = self._loaded.processor(
        images=list(stack.permute(0, 3, 1, 2)),
        input_data_format='channels_first',
        device=device,
        return_tensors='pt',
        **options,
      )
      names = {'pixel_values', 'task_inputs'} & set(inputs)  # Without padding, masks are all ones.
      tensors = {name: inputs[name].to(device) for name in names}
      prepared.setdefault(tensors['pixel_values'].shape[1:], []).append((indices, tensors))
    for parts in prepared.values():
      indices = list(itertools.chain.from_iterable(part for part, _ in parts))
      names = set(parts[0][1])
      yield indices, {name: torch.cat([tensors[name] for _, tensors in parts]) for name in names}


class TorchvisionSegmenter:
  """torchvision's Mask R-CNN."""

  def __init__(self, loaded: LoadedModel, classes: Sequence[int], threshold: float):
    """Creates the segmenter.

    Args:
      loaded: a `torchvision.models.detection.MaskRCNN`, without a processor.
      classes: the indices of the classes of people.
      threshold: the lowest score of a person.
    """
    self.licenses = loaded.licenses
    self.provenance = loaded.provenance
    self._loaded = loaded
    self._classes = list(classes)
    loaded.model.roi_heads.score_thresh = threshold

  def __call__(self, frames: Sequence[np.ndarray]) -> list[People]:
    """See `PersonSegmenter`."""
    import torch

    model, device = self._loaded.model, self._loaded.device
    people: dict[int, People] = {}
    with self._loaded.inference():
      classes = torch.tensor(self._classes, device=device)
      # Images of one call are padded to a common size, which changes their features at the edges.
      for indices in group_by_size(frames):
        stack = torch.from_numpy(np.stack([frames[index] for index in indices])).to(device)
        size = frames[indices[0]].shape[:2]
        # The steps of `GeneralizedRCNN.forward`, but only people's masks are enlarged.
        images, _ = model.transform(list(stack.permute(0, 3, 1, 2) / 255))
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        detections, _ = model.roi_heads(features, proposals, images.image_sizes)
        for row, index in enumerate(indices):
          kept = torch.isin(detections[row]['labels'], classes)
          detection = {name: values[kept].float() for name, values in detections[row].items()}
          (full,) = model.transform.postprocess([detection], [images.image_sizes[row]], [size])
          people[index] = unite([(full['scores'], full['masks'][:, 0] > 0.5)], size, device)
    return [people[index] for index in range(len(frames))]


def group_by_size(frames: Sequence[np.ndarray]) -> list[list[int]]:
  """Returns the indices of the frames of each size, in the order of the first of each size."""
  groups: dict[tuple[int, ...], list[int]] = {}
  for index, frame in enumerate(frames):
    groups.setdefault(frame.shape, []).append(index)
  return list(groups.values())


def _load_mask_rcnn(name: str, flag: str, device: str) -> tuple[LoadedModel, list[int]]:
  """Returns torchvision's Mask R-CNN and its classes of people.

  Its weights are a pickle of torchvision's own server, of which PyTorch checks the hash and reads
  nothing but arrays.
  """
  target = choose_device(device)
  import torch
  import torchvision

  key = name.removeprefix(TORCHVISION_PREFIX)
  if key not in _TORCHVISION_MODELS:
    known = ' or '.join(TORCHVISION_PREFIX + known for known in _TORCHVISION_MODELS)
    raise UserError(f'{flag}={name}: is not supported; give {known}')
  weights = torchvision.models.get_model_weights(key).DEFAULT
  file = weights.url.rpartition('/')[2]
  try:
    state = weights.get_state_dict(check_hash=True, weights_only=True, map_location='cpu')
  except Exception as error:  # The exceptions depend on the version and on the file.
    raise UserError(
      f'{flag}={name}: its weights cannot be loaded ({first_line(error)}); download {weights.url}'
      f' elsewhere into {torch.hub.get_dir()}/checkpoints'
    ) from None
  model = torchvision.models.get_model(key, weights=None, weights_backbone=None)
  model.load_state_dict(state)
  loaded = LoadedModel(
    model=model.eval().to(target),
    processor=None,
    config={},
    device=target,
    half=uses_bfloat16(target),
    licenses=model_licenses('torchvision', ''),
    provenance={
      'model': name,
      'model_type': 'torchvision',
      'revision': file,
      'precision': 'bfloat16' if uses_bfloat16(target) else 'float32',
      'notes': model_notes(target),
    },
  )
  return loaded, person_classes(dict(enumerate(weights.meta['categories'])), f'{flag}={name}')
