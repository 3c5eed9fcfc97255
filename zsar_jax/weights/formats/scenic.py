"""CLIP in Scenic (`scenic/projects/baselines/clip`): our array layouts under other paths."""

from zsar_jax.weights.formats.format import Format
from zsar_jax.weights.formats.key_tables import SAME, Row, Table


def _rows() -> list[Row]:
  leaves = ['logit_scale', 'visual/conv1/kernel', 'visual/class_embedding']
  leaves += ['visual/positional_embedding', 'visual/proj/kernel']
  leaves += ['text/token_embedding/embedding', 'text/positional_embedding']
  leaves += ['text/text_projection/kernel']
  norms = ['visual/ln_pre', 'visual/ln_post', 'text/ln_final']
  kernels = []
  for tower in ('visual', 'text'):
    block = f'{tower}/transformer/resblocks/{{i}}'
    norms += [f'{block}/ln_1', f'{block}/ln_2']
    kernels += [f'{block}/attn/{name}' for name in ('query', 'key', 'value', 'out')]
    kernels += [f'{block}/mlp/c_fc', f'{block}/mlp/c_proj']
  leaves += [f'{path}/{leaf}' for path in norms for leaf in ('scale', 'bias')]
  leaves += [f'{path}/{leaf}' for path in kernels for leaf in ('kernel', 'bias')]
  # In Scenic the number of a block is part of its module's name.
  return [(path, path.replace('resblocks/{i}', 'resblocks.{i}'), SAME) for path in leaves]


SCENIC = Format(
  name='scenic',
  table=Table(_rows()),
  markers=('visual/conv1/kernel', 'visual/transformer/resblocks.0/ln_1/scale'),
)
