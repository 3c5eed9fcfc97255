"""Which of these models sees the action? Models compared that a study trains, loads or imports.

    configs/compare_models.py              six models on Pantomime, in minutes on a CPU
    configs/compare_models.py:torch        also a PyTorch model, X-CLIP of transformers
    configs/compare_models.py:kinetics     published models on Kinetics400 and Mimetics
    configs/compare_models.py:ssv2         published models on Something-Something v2

    zsar study --config=compare_models --workdir=studies/models

A model is the name of weights on the Hugging Face hub, a file or folder of weights, the workdir of
a run, or 'module:function', somebody's code; see `zsar_jax.study.plan.model`. The published models
are fetched with the extra `hub`.
"""

import zlib

import numpy as np
from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref, default_config
from zsar_jax.configs import pantomime
from zsar_jax.configs.debiasing import METHODS
from zsar_jax.errors import UserError
from zsar_jax.study.plan import default_study, experiment, model, run

VARIANTS = ('', 'torch', 'kinetics', 'ssv2')

# What each model is tested under: without the background, without the people, in front of another
# clip's background or of stripes, and with other orders of the frames, each also on the action
# alone.
RECIPES = (
  'none',
  'background=normal',
  'background=normal/other',
  'background=mean,object=mean',
  'person=mean,object=mean',
  'background=swap',
  'background=stripes',
  'background=stripes,freeze',
  'reverse',
  'shuffle',
  'freeze',
  'background=normal,reverse',
  'background=normal,shuffle',
  'background=normal,freeze',
)

# {name: (phrase, source, what it was trained on)}
PUBLISHED = {
  'clip_b16': (
    "OpenAI's CLIP",
    'hf://openai/clip-vit-base-patch16',
    '400 million pairs of images and texts (WIT)',
  ),
  'laion_b16': (
    'open_clip, LAION-2B',
    'hf://laion/CLIP-ViT-B-16-laion2B-s34B-b88K',
    'LAION-2B',
  ),
  'siglip2_b16': ('SigLIP 2', 'hf://google/siglip2-base-patch16-224', 'WebLI'),
  'pe_core_b16': (
    'Perception Encoder',
    'hf://facebook/PE-Core-B16-224',
    '5.4 billion pairs of images and texts, 22 million videos',
  ),
  'videoprism_b': (
    'VideoPrism-LvT',
    'hf://google/videoprism-lvt-base-f16r288',
    '36 million captioned videos, 582 million clips',
  ),
  'xclip_b16': ('X-CLIP', 'hf://microsoft/xclip-base-patch16', 'Kinetics400'),
}


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  if variant not in VARIANTS:
    raise UserError(
      f'the config compare_models has no variant {variant!r}; there are {", ".join(VARIANTS[1:])}'
    )
  study = default_study()
  study.title = 'Which model sees the action?'
  study.seeds = (7,)
  if variant in ('kinetics', 'ssv2'):
    models = {name: model(*entry[:2], trained_on=entry[2]) for name, entry in PUBLISHED.items()}
    study.experiments[variant] = experiment(_published_base(variant), 'clip_b16', models)
    return study
  study.about = (
    'Small models that were trained on the scenes of Pantomime in different ways, and models that'
    ' were not trained on it, with the same clips, recipes and intervals.'
  )
  study.experiments.models = experiment(
    _pantomime_base(),
    'unmasked',
    _pantomime_models(variant),
    'Classes that no model was trained on.',
  )
  return study


def _pantomime_models(variant: str) -> dict[str, ConfigDict]:
  models = {
    'unmasked': run('trained on unpainted clips'),
    'painted': run(*METHODS['colour']),
    'swapped': run(*METHODS['swap']),
    'unordered': run('a mean over frames, trained on unpainted clips', {'model.temporal': 'mean'}),
    'still': run('trained on one frame of each clip, repeated', {'recipe': 'freeze'}),
    'random': model(
      'random projections of the pixels',
      'zsar_jax.configs.compare_models:random_projections',
      trained_on='nothing',
    ),
  }
  if variant == 'torch':
    models['xclip'] = model(
      'X-CLIP of transformers with random weights',
      'zsar_jax.configs.compare_models:random_xclip',
      trained_on='nothing',
    )
  return models


def _pantomime_base() -> ConfigDict:
  config = pantomime.get_config('none')
  config.steps = 300
  config.eval.allow_seen_classes = False
  config.eval.recipes = RECIPES
  config.eval.datasets = ConfigDict(
    {
      f'{world}_novel': dataset_ref(f'pantomime/{world}', 'test', 'novel')
      for world in ('scenes', 'mimes')
    }
  )
  return config


def _published_base(variant: str) -> ConfigDict:
  config = default_config()
  config.eval.recipes = RECIPES
  names = ('kinetics400', 'mimetics') if variant == 'kinetics' else ('ssv2',)
  config.eval.datasets = ConfigDict({name: dataset_ref(name, 'validation') for name in names})
  if variant == 'ssv2':
    config.eval.recipes += ('object=normal', 'background=normal,object=normal')
  # The models were not trained on these classes by name, but most have seen such pictures.
  config.eval.allow_seen_classes = True
  return config


class RandomProjections:
  """A model of random weights: what a score means nothing looks like."""

  _SIZE = 64

  def encode_video(self, frames: np.ndarray) -> np.ndarray:
    """Projects the mean of the frames, u8[B, T, H, W, 3], to f32[B, 64]."""
    pixels = frames.mean(axis=1).reshape(len(frames), -1) / 255 - 0.5
    weights = np.random.default_rng(0).normal(size=(pixels.shape[1], self._SIZE))
    return (pixels @ weights).astype(np.float32)

  def encode_text(self, texts: list[str]) -> np.ndarray:
    """Draws a vector f32[64] for each text."""
    rows = [
      np.random.default_rng(zlib.crc32(text.encode())).normal(size=self._SIZE) for text in texts
    ]
    return np.array(rows, np.float32)


def random_projections() -> RandomProjections:
  """Returns a model in NumPy, see `config.model.external`."""
  return RandomProjections()


class RandomXClip:
  """X-CLIP of transformers with random weights and hashed words: a PyTorch model."""

  def __init__(self):
    import torch
    from transformers import XCLIPConfig, XCLIPModel

    tower = dict(hidden_size=64, intermediate_size=256, num_attention_heads=2, num_hidden_layers=2)
    text = dict(vocab_size=1000, bos_token_id=998, eos_token_id=999)
    vision = dict(image_size=48, patch_size=8, num_frames=4, mit_hidden_size=64)
    integration = dict(mit_intermediate_size=256, mit_num_attention_heads=1)
    torch.manual_seed(0)
    self._torch = torch
    self._model = XCLIPModel(
      XCLIPConfig(
        text_config=tower | text,
        vision_config=tower | vision | integration,
        projection_dim=64,
        prompt_num_attention_heads=1,
      )
    ).eval()

  def score(self, frames: np.ndarray, texts: list[str]) -> np.ndarray:
    """Maps frames u8[B, T, H, W, 3] and C texts to scores f32[B, C]."""
    torch = self._torch
    words = [[zlib.crc32(word.encode()) % 997 for word in text.split()] for text in texts]
    length = max(map(len, words)) + 2
    rows = [[998, *row, *[999] * (length - 1 - len(row))] for row in words]
    pixels = torch.from_numpy(frames).float().permute(0, 1, 4, 2, 3) / 127.5 - 1
    with torch.inference_mode():
      output = self._model(pixel_values=pixels, input_ids=torch.tensor(rows))
    return output.logits_per_video.numpy()


def random_xclip() -> RandomXClip:
  """Returns a model in PyTorch, see `config.model.external`."""
  return RandomXClip()
