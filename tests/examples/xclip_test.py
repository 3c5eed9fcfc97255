"""The example of X-CLIP, against transformers' own scores of one clip at a time."""

import string

import numpy as np
import pytest

from tests.toy import build_toy
from tests.training.loop_test import toy_config
from zsar_jax import experiment
from zsar_jax.data.clip_loader import ClipLoader
from zsar_jax.data.dataset import open_dataset
from zsar_jax.data.subset import select
from zsar_jax.data.view import View
from zsar_jax.evaluation.predictions import load

torch = pytest.importorskip('torch', reason='the example needs PyTorch: extra `parity`')
transformers = pytest.importorskip('transformers', reason='the example needs the extra `parity`')

MARKS = ('<|startoftext|>', '<|endoftext|>')


def save_tiny_xclip(folder):
  """Saves an X-CLIP with random weights and a tokenizer that knows letters."""
  letters = [letter + end for end in ('', '</w>') for letter in string.ascii_lowercase]
  vocab = {word: index for index, word in enumerate([*letters, *MARKS])}
  tower = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2)
  marks = dict(vocab_size=len(vocab), bos_token_id=len(letters), eos_token_id=len(letters) + 1)
  vision = dict(image_size=32, patch_size=8, num_frames=4, mit_hidden_size=24)
  mit = dict(mit_intermediate_size=48, mit_num_attention_heads=2, mit_num_hidden_layers=1)
  torch.manual_seed(0)
  config = transformers.XCLIPConfig(
    text_config=tower | marks,
    vision_config=tower | vision | mit,
    projection_dim=24,
    prompt_num_attention_heads=2,
  )
  model = transformers.XCLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.1 * torch.randn(parameter.shape)
  model.save_pretrained(folder)
  tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
  tokenizer.save_pretrained(folder)
  return model, tokenizer


def test_scores_are_those_of_transformers(tmp_path, monkeypatch):
  model, tokenizer = save_tiny_xclip(tmp_path / 'model')
  monkeypatch.setattr('examples.xclip.NAME', str(tmp_path / 'model'))
  config = toy_config(build_toy(tmp_path / 'data'))
  config.view.num_frames, config.view.size = 4, 32
  config.eval.recipes = ('none', 'background=#ff2000')
  config.model.external = 'examples.xclip:load'
  experiment.run(config, tmp_path / 'run', 'eval')
  predictions = load(tmp_path / 'run' / 'predictions' / 'toy.npz')

  dataset = open_dataset(config.data.dir, 'toy', 'validation')
  loader = ClipLoader(select(dataset, 'novel', 'nearest', ''), View.from_config(config))
  assert len(predictions.ids) == 4
  for position in range(4):
    clip = loader.evaluation_clip(position)
    background = ((clip['regions'] & 0b1111) == 0) & clip['annotated'][:, None, None]
    assert 0.1 < background.mean() < 0.5
    painted = np.where(background[..., None], [255, 32, 0], clip['frames'])
    for recipe, frames in (('none', clip['frames']), ('background=#ff2000', painted)):
      pixels = torch.tensor(frames).permute(0, 3, 1, 2)[None] / 255
      mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
      scores = []
      for template in config.text.templates:
        texts = [template.format(name) for name in ('jumping', 'turning')]
        with torch.no_grad():
          theirs = model(
            pixel_values=(pixels - mean) / std,
            **tokenizer(texts, padding='max_length', return_tensors='pt'),
          )
        scores.append(theirs.logits_per_video[0].numpy())
      ours = predictions.logits[recipe][position]
      np.testing.assert_allclose(ours, np.mean(scores, axis=0), rtol=2e-5, atol=2e-5)
  # The scores depend on the clip, on the text and on the recipe.
  logits = np.stack(list(predictions.logits.values()))
  assert all(np.ptp(logits, axis=axis).min() > 1e-3 for axis in range(3))
