"""What the experiments on real data share, and their variant `smoke`."""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref, default_config
from zsar_jax.errors import UserError

# The approximate number of training clips of Kinetics-400 that are still available.
KINETICS_CLIPS = 240_000


def full_size() -> ConfigDict:
  """Returns a ViT-B/16 with CLIP's initial weights and ViFi-CLIP's optimizer (arXiv 2212.03640)."""
  config = default_config()
  config.data.batch_size = 256
  config.data.workers = 14
  config.view.num_frames = 8
  config.view.interpolation = 'bicubic'
  config.augment.jitter = 0.8
  config.augment.greyscale = 0.2
  config.model.preset = 'vit_b16'
  config.model.dtype = 'bfloat16'
  config.model.init_from = 'weights/clip_vit_b16'
  config.optim.lr = 8e-6
  config.optim.cosine_from = 'start'
  config.optim.accumulation = 8
  config.eval.batch_size = 128
  return config


def kinetics_epochs(config: ConfigDict, epochs: int, warmup: int) -> None:
  """Sets the training to `epochs` epochs of Kinetics-400, the first `warmup` with warm-up."""
  epoch = KINETICS_CLIPS // config.data.batch_size
  config.data.train = dataset_ref('kinetics400', 'train')
  config.steps = epochs * epoch
  config.optim.warmup_steps = warmup * epoch
  config.checkpoint.every = epoch


def kinetics_evaluation(config: ConfigDict) -> None:
  """Sets the usual zero-shot evaluation after Kinetics-400, see configs/zeroshot_eval.py."""
  names = ('1', '2', '3')
  splits = {
    f'{dataset}_{name}': dataset_ref(dataset, f'test{name}')
    for dataset in ('ucf101', 'hmdb51')
    for name in names
  }
  splits |= {
    f'kinetics600_{name}': dataset_ref(
      'kinetics600', 'validation', f'splits/k600_outside_k400.json:{name}'
    )
    for name in names
  }
  config.eval.datasets = ConfigDict(splits)
  config.eval.groups = ConfigDict(
    {
      dataset: tuple(f'{dataset}_{name}' for name in names)
      for dataset in ('ucf101', 'hmdb51', 'kinetics600')
    }
  )
  # 22 classes of UCF101 and 2 of HMDB51 have the name of a class of Kinetics-400; the literature
  # includes them.
  config.eval.allow_seen_classes = True


def vifi_and_xclip_training(config: ConfigDict) -> None:
  """Sets what ViFi-CLIP and X-CLIP share in zero-shot training on Kinetics-400: they share code."""
  kinetics_epochs(config, epochs=10, warmup=5)
  kinetics_evaluation(config)
  config.view.num_frames = 32
  config.view.interpolation = 'bilinear'
  config.view.crop_side = (0.66, 1.0)
  config.augment.flip = 0.5
  config.augment.mixup = 0.8
  config.augment.cutmix = 1.0
  config.optim.label_smoothing = 0.1
  config.optim.clip_norm = 0.0
  config.optim.max_logit_scale = 1e6


def shrink_kinetics(config: ConfigDict, variant: str) -> None:
  """Shrinks an experiment, as `shrink`, and trains and evaluates on a few Kinetics-400 clips."""
  shrink(config, variant)
  config.data.train = dataset_ref('kinetics400', 'train')
  config.eval.datasets = ConfigDict({'kinetics400': dataset_ref('kinetics400', 'validation')})
  config.eval.groups = ConfigDict()
  config.eval.allow_seen_classes = True


def shrink(config: ConfigDict, variant: str) -> None:
  """Shrinks an experiment to about a minute on two CPU cores and a handful of clips.

  Args:
    config: changed in place.
    variant: the variant of the config file.

  Raises:
    UserError: if the variant is not 'smoke'.
  """
  if variant != 'smoke':
    raise UserError(f'the config has no variant {variant!r}; the head of its file lists them')
  config.data.batch_size = 4
  config.data.workers = 0
  config.view.num_frames = 4
  config.view.size = 48
  config.model.preset = 'tiny'
  config.model.dtype = 'float32'
  config.model.init_from = ''
  config.text.tokenizer = 'words'
  config.optim.lr = 1e-3
  config.optim.warmup_steps = 5
  config.optim.accumulation = 2
  config.steps = 40
  config.checkpoint.every = 5
  config.log.every = 1
  config.eval.batch_size = 4
