"""Sth-com: does a model read the verb from the object? Pairs of both, seen and unseen in training.

    configs/sth_com.py          ViT-B/16 from CLIP's weights, trained on the seen pairs
    configs/sth_com.py:torc     the same with the loss against the neglect of order
    configs/sth_com.py:smoke    the same code in a minute on a CPU: a tiny model, few steps

Sth-com (C2C: Li et al., ECCV 2024; RCORE, arXiv 2601.16211) divides the clips of
Something-Something v2 anew. Build the data set of all of its clips with masks (zsar build-dataset
--dataset=ssv2 ... --out=DIR), set config.data.dir to DIR, and put the lists into the folder
sth_com; docs/benchmarks.md says where they come from and what the figures are. The model and the
schedule are not RCORE's, which has adapters and separate heads for verbs and objects.
"""

from ml_collections import ConfigDict

from zsar_jax.config import dataset_ref
from zsar_jax.configs.full_size import full_size, shrink
from zsar_jax.errors import UserError

VARIANTS = ('', 'torc', 'smoke')

# The approximate number of training clips: the paper of C2C gives 79,000 for all parts.
_CLIPS = 38_000


def get_config(variant: str = '') -> ConfigDict:
  """Returns the config of a variant; the docstring of this file lists them."""
  if variant not in VARIANTS:
    raise UserError(f'the config has no variant {variant!r}; the head of its file lists them')
  config = full_size()
  # The lists divide the clips in another way than Something-Something v2 does.
  config.data.train = dataset_ref(
    'ssv2', 'train+validation', 'seen', labels='sth_com/train_pairs.json'
  )
  config.text.templates = ('{}',)
  config.model.temporal = 'transformer'
  config.model.temporal_layers = 1
  config.model.allow_missing = ('temporal/.*',)
  # A class text of each of thousands of pairs in every step would cost more than the clips.
  config.optim.lr_rules = (('text/.*', 0.0), ('temporal/.*', 10.0))
  epoch = _CLIPS // config.data.batch_size
  config.steps = 20 * epoch
  config.optim.warmup_steps = 2 * epoch
  config.checkpoint.every = epoch
  if variant == 'torc':
    config.optim.torc = 1.0
    config.optim.torc_ramp = (config.steps // 8, config.steps // 4)

  # The training pairs are classes of the evaluation by design.
  config.eval.allow_seen_classes = True
  config.eval.recipes = ('none', 'background=normal', 'object=normal', 'reverse')
  config.eval.datasets = ConfigDict(
    {'sth_com': dataset_ref('ssv2', 'train+validation', 'open', labels='sth_com/test_pairs.json')}
  )
  if variant == 'smoke':
    shrink(config, variant)
  return config
