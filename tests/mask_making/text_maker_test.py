"""The maker `text` masks what the phrases of each clip name."""

import json

import numpy as np
import pytest

pytest.importorskip('torchvision')
pytest.importorskip('transformers')

from tests.mask_making import tiny_sam, tiny_text_models  # noqa: E402
from zsar_jax.datasets.video import VideoFacts  # noqa: E402
from zsar_jax.errors import UserError  # noqa: E402
from zsar_jax.mask_making.maker import MakerClip  # noqa: E402
from zsar_jax.mask_making.text_detectors import Detections  # noqa: E402
from zsar_jax.mask_making.text_maker import (  # noqa: E402
  BoxedWords,
  TextMaker,
  TextSpec,
  select_boxes,
)

# The drawn figures: an ellipse of each color moves through a clip.
COLORS = {'person': (200, 0, 0), 'man': (200, 0, 0), 'cup': (0, 200, 0)}


def clip(name, frames, phrases, size=None):
  height, width = size or frames[0].shape[:2]
  facts = VideoFacts(1, np.arange(1), height, width, height, width, np.zeros((1, 8, 8)))
  return MakerClip(name, frames, facts, 12.0, phrases=phrases)


def drawing(size, count, seed):
  """Returns `count` frames with a red and a green ellipse, which do not overlap."""
  rng = np.random.default_rng(seed)
  height, width = size
  rows, columns = np.ogrid[:height, :width]
  frames = []
  for _ in range(count):
    frame = np.zeros((height, width, 3), np.uint8)
    for half, color in enumerate([(200, 0, 0), (0, 200, 0)]):
      x = (half + 0.5 + rng.uniform(-0.1, 0.1)) * width / 2
      y = rng.uniform(0.4, 0.6) * height
      inside = ((columns - x) / (width / 7)) ** 2 + ((rows - y) / (height / 4)) ** 2 < 1
      frame[inside] = color
    frames.append(frame)
  return frames


def shape(frame, color):
  return (frame == color).all(-1)


class Figures:
  """A detector and a segmenter of the drawn figures; records the batches."""

  def __init__(self):
    self.batches = []

  def detect(self, frames, phrases):
    self.batches.append((len(frames), tuple(phrases)))
    results = []
    for frame in frames:
      boxes, found = [], []
      for index, phrase in enumerate(phrases):
        inside = shape(frame, COLORS.get(phrase, (9, 9, 9)))
        if inside.any():
          rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
          boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
          found.append(index)
      scores = np.linspace(0.5, 0.6, len(boxes))
      results.append(
        Detections(np.array(boxes, float).reshape(-1, 4), scores, np.array(found, int))
      )
    return results

  def segment(self, frames, boxes):
    """Returns for each box the figure at its center, and a stray line along the left edge."""
    results = []
    for frame, own in zip(frames, boxes, strict=True):
      masks = []
      for x1, y1, x2, y2 in own:
        mask = shape(frame, frame[int(y1 + y2) // 2, int(x1 + x2) // 2])
        mask[:, 0] = True
        masks.append(mask)
      results.append((np.array(masks, bool).reshape(-1, *frame.shape[:2]), np.full(len(own), 0.8)))
    return results


def make(clips, batch_frames=4):
  figures = Figures()
  segment = BoxedWords(figures.detect, figures.segment)
  masks = list(TextMaker(segment, ('person', 'object'), {}, batch_frames).make(clips))
  return masks, figures.batches


def test_planes_are_the_drawn_figures_of_each_clips_phrases():
  a, b, c = drawing((40, 60), 3, 0), drawing((40, 60), 2, 1), drawing((60, 50), 2, 2)
  both, alone = {'person': 'person', 'cup': 'object'}, {'cup': 'object'}
  clips = [
    clip('a', a, both),
    clip('b', b, dict(both)),
    clip('c', c, both),
    clip('c cup', c, alone),
    clip('c nothing', c, {}),
    clip('a unicorn', a, {'unicorn': 'object'}),
  ]
  masks, batches = make(clips)
  red, green = COLORS['person'], COLORS['cup']
  assert len(masks) == 14
  for mask, frame in zip(masks[:7], [*a, *b, *c], strict=True):
    np.testing.assert_array_equal(mask.plane, shape(frame, red) + 2 * shape(frame, green))
    assert (mask.people, mask.score) == (1, 0.8)
    assert 0 < mask.outside < 0.3
  for mask, frame in zip(masks[7:9], c, strict=True):
    np.testing.assert_array_equal(mask.plane, 2 * shape(frame, green))
    assert mask.people == 0
  # Nothing to look for, or nothing found: the frames are annotated and empty.
  for mask, frame in zip(masks[9:], [*c, *a], strict=True):
    assert mask.plane.shape == frame.shape[:2]
    assert mask.plane.dtype == np.uint8
    assert not mask.plane.any()
    assert mask.people == 0
    assert np.isnan(mask.score)
  # Batches span clips of the same size and phrases.
  names = ('person', 'cup')
  assert batches == [(4, names), (1, names), (2, names), (2, ('cup',)), (3, ('unicorn',))]


def test_frames_of_a_long_clip_are_read_as_they_are_needed():
  class Frames:
    def __iter__(self):
      for frame in drawing((40, 60), 100, 0):
        read.append(1)
        yield frame

  read = []
  figures = Figures()
  segment = BoxedWords(figures.detect, figures.segment)
  masks = TextMaker(segment, ('object',), {}, 4).make(
    [clip('a', Frames(), {'cup': 'object'}, (40, 60))]
  )
  next(masks)
  assert len(read) == 4


def test_two_words_for_a_person_are_a_person():
  phrases = {'person': 'person', 'man': 'person', 'cup': 'object'}
  masks, _ = make([clip('a', drawing((40, 60), 2, 0), phrases)])
  assert [mask.people for mask in masks] == [1, 1]


def select(boxes, scores, phrases, regions=('person', 'object', 'object'), size=(100, 200)):
  """Returns (left edge, phrase's score) of the selected boxes."""
  detections = Detections(np.array(boxes, float), np.array(scores), np.array(phrases))
  return [
    (box.region, (box.x1, box.y1, box.x2, box.y2), box.score)
    for box in select_boxes(detections, regions, *size)
  ]


def test_of_boxes_of_a_region_that_nearly_coincide_the_best_is_segmented():
  # Intersections over union: 0.8 with the first for the second, 0.6 for the third.
  boxes = [[0, 0, 100, 50], [0, 0, 80, 50], [0, 0, 60, 50], [0, 0, 100, 50], [0, 0, 90, 50]]
  assert select(boxes, [0.5, 0.9, 0.3, 0.6, 0.4], [1, 2, 1, 0, 0]) == [
    ('object', (0, 0, 80, 50), 0.9),
    ('person', (0, 0, 100, 50), 0.6),
  ]
  assert len(select(boxes[:1] + boxes[2:3], [0.5, 0.3], [1, 1])) == 2


def test_an_objects_box_around_the_frame_needs_to_be_its_only_one():
  frame, small = [0, 0, 200, 95], [10, 10, 50, 50]
  nearly = [0, 0, 200, 89]
  assert select([frame, small], [0.9, 0.3], [1, 1]) == [('object', (10, 10, 50, 50), 0.3)]
  # The small box is that of another phrase, or of a person, or the large one is.
  assert len(select([frame, small], [0.9, 0.3], [1, 2])) == 2
  assert len(select([frame, small], [0.9, 0.3], [1, 0])) == 2
  assert len(select([frame, small], [0.9, 0.3], [0, 0])) == 2
  assert len(select([nearly, small], [0.9, 0.3], [1, 1])) == 2
  assert len(select([frame], [0.9], [1])) == 1


def test_boxes_are_within_the_frame_and_few():
  ((_, box, _),) = select([[-30, 20, 230, 140]], [0.5], [0])
  assert box == (0, 20, 200, 100)
  boxes = [[3 * index, 0, 3 * index + 3, 50] for index in range(60)]
  scores = np.arange(60) / 100
  assert [score for *_, score in select(boxes, scores, [0] * 60)] == list(scores[:9:-1])


@pytest.mark.parametrize('save', [tiny_text_models.grounding_dino, tiny_text_models.owl])
def test_models_mask_clips_of_two_sizes(tmp_path, save):
  detector, segmenter = save(tmp_path / 'detector'), tiny_sam.save_sam2(tmp_path / 'sam')
  spec = TextSpec(str(detector), 'hand/cup', str(segmenter), threshold=0.5, device='cpu')
  maker = spec.open()
  phrases = {'hand': 'person', 'cup': 'object'}
  rng = np.random.default_rng(0)
  sizes = [(40, 60)] * 2 + [(60, 30)]
  frames = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
  masks = list(maker.make([clip('a', frames[:2], phrases), clip('b', frames[2:], phrases)]))
  assert [mask.plane.shape for mask in masks] == sizes
  assert np.mean([mask.plane.any() for mask in masks]) > 0
  assert maker.regions == ('person', 'object')
  provenance = json.loads(json.dumps(maker.provenance))
  assert provenance['maker'] == 'text'
  assert (provenance['words'], provenance['threshold']) == ('hand/cup', 0.5)
  assert provenance['model'] == 'detector'
  assert provenance['segmenter']['model'] == 'sam'
  assert provenance['licenses'].keys() == {'code', 'weights'}
  assert 'notes' not in provenance['segmenter']


def test_thresholds_are_low_and_depend_on_the_model(tmp_path):
  sam = str(tiny_sam.save_sam2(tmp_path / 'sam'))
  saves = {'owl': (tiny_text_models.owl, 0.1), 'dino': (tiny_text_models.grounding_dino, 0.25)}
  for name, (save, threshold) in saves.items():
    maker = TextSpec(str(save(tmp_path / name)), 'placeholders', sam, device='cpu').open()
    assert maker.provenance['threshold'] == threshold
  folder = str(tiny_text_models.sam3(tmp_path / 'sam3'))
  maker = TextSpec(folder, 'cup', accept_license=True, device='cpu').open()
  assert maker.provenance['threshold'] == 0.3
  assert maker.regions == ('object',)


def test_what_is_missing_or_needless_is_named(tmp_path):
  dino = str(tiny_text_models.grounding_dino(tmp_path / 'dino'))
  sam3 = str(tiny_text_models.sam3(tmp_path / 'sam3'))
  for spec, message in [
    (TextSpec(dino, 'cup', device='cpu'), r'--text=.*returns boxes; .* --object=facebook/sam2.1-'),
    (TextSpec(sam3, 'cup', device='cpu'), r'--text=.*SAM License.*--accept-license'),
    (
      TextSpec(sam3, 'cup', dino, accept_license=True, device='cpu'),
      r'--object: --text=.*leave out --object',
    ),
    (TextSpec(dino, 'cup:tool', dino, device='cpu'), r'--words: .*must be person or object'),
  ]:
    with pytest.raises(UserError, match=message):
      spec.open()
