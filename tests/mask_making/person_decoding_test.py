"""The union, the scores and the boxes of drawn instances."""

import numpy as np
import pytest

pytest.importorskip('torchvision')

import torch  # noqa: E402

from zsar_jax.mask_making.person_decoding import query_decoder, unite  # noqa: E402


def test_unites_instances_and_drops_empty_ones():
  masks = torch.zeros(4, 6, 8, dtype=torch.bool)
  masks[0, 1:3, 2:5] = True
  masks[2, 5, 7] = True
  masks[3, 0:6, 0] = True
  masks[3, 2, 4] = True
  scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
  parts = [(scores[:3], masks[:3]), (scores[3:], masks[3:]), (scores[:0], masks[:0])]
  people = unite(parts, (6, 8), torch.device('cpu'))
  np.testing.assert_array_equal(people.mask, masks.any(0).numpy())
  np.testing.assert_allclose(people.scores, [0.9, 0.7, 0.6])
  np.testing.assert_array_equal(people.boxes, [[2, 1, 5, 3], [7, 5, 8, 6], [0, 0, 5, 6]])


def test_no_instances_are_an_empty_mask():
  people = unite([], (6, 8), torch.device('cpu'))
  assert people.mask.shape == (6, 8)
  assert not people.mask.any()
  assert people.scores.shape == (0,)
  assert people.boxes.shape == (0, 4)


@pytest.mark.parametrize('model_type', ['mask2former', 'oneformer'])
def test_a_lone_person_does_not_cover_the_frame(model_type):
  """`OneFormerImageProcessor` gives every pixel to the best query, here the only one."""
  class_logits = torch.full((3, 4), -5.0)
  class_logits[0, 1] = 5.0
  class_logits[1:, 3] = 5.0  # No object.
  mask_logits = torch.full((3, 8, 8), -4.0)
  mask_logits[0, 2:5, 2:5] = 4.0
  decode = query_decoder(model_type, None)
  instances = decode(class_logits, mask_logits, torch.tensor([1]), 0.3, (8, 8))
  people = unite(instances, (8, 8), torch.device('cpu'))
  truth = mask_logits[0].numpy() > 0
  assert not (people.mask & ~truth).any()
  assert (truth & ~people.mask).sum() <= 1  # Enlarging it rounds the square's corners.
  np.testing.assert_array_equal(people.boxes, [[2, 2, 5, 5]])
