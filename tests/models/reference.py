"""CLIP written down in NumPy from its description, in f64, to compare the models with."""

import math

import numpy as np


def layer_norm(x, p):
  centered = x - x.mean(-1, keepdims=True)
  deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
  return centered / deviation * p['scale'] + p['bias']


def dense(x, p):
  return x @ p['kernel'] + p.get('bias', 0)


def attend(x, keys, values, p, seen=None):
  """Queries from `x: [L, D]` on `keys` and `values: [M, H, d]`, one head and query at a time."""
  heads = keys.shape[1]
  out = np.zeros((len(x), p['out']['kernel'].shape[-1]))
  for h in range(heads):
    q = x @ p['query']['kernel'][:, h] + (p['query']['bias'][h] if 'bias' in p['query'] else 0)
    for i in range(len(x)):
      last = seen(i) if seen else len(keys)
      scores = np.array([q[i] @ key for key in keys[:last, h]]) / math.sqrt(keys.shape[2])
      weights = np.exp(scores - scores.max())
      out[i] += weights @ values[:last, h] / weights.sum() @ p['out']['kernel'][h]
  return out + p['out']['bias']


def attention(x, p, causal):
  """Self-attention of one sequence `x: [L, D]`."""
  keys, values = (
    np.einsum('ld,dhk->lhk', x, p[name]['kernel']) + p[name]['bias'] for name in ('key', 'value')
  )
  return attend(x, keys, values, p, (lambda i: i + 1) if causal else None)


def mlp(x, p):
  """Two dense layers with a quick GELU between them."""
  hidden = dense(x, p['mlp']['c_fc'])
  return dense(hidden / (1 + np.exp(-1.702 * hidden)), p['mlp']['c_proj'])


def transformer(x, p, causal=False):
  """Residual blocks in the order of their numbers on one sequence `x: [L, D]`."""
  for i in range(len(p['resblocks'])):
    block = p['resblocks'][str(i)]
    x = x + attention(layer_norm(x, block['ln_1']), block['attn'], causal)
    x = x + mlp(layer_norm(x, block['ln_2']), block)
  return x


def first_tokens(image, p, prompts=None):
  """One image [H, W, 3] to what the first block gets, the convolution one patch at a time."""
  kernel = p['conv1']['kernel']
  size, width = kernel.shape[0], kernel.shape[-1]
  tokens = [p['class_embedding']]
  for top in range(0, image.shape[0], size):
    for left in range(0, image.shape[1], size):
      patch = image[top : top + size, left : left + size]
      tokens.append(np.array([(patch * kernel[..., d]).sum() for d in range(width)]))
  x = np.stack(tokens) + p['positional_embedding']
  if prompts is not None:
    x = np.concatenate([x, prompts])
  return layer_norm(x, p['ln_pre'])


def last(x, p):
  """The embedding [E] of an image from its last tokens."""
  return dense(layer_norm(x[0], p['ln_post']), p['proj'])


def encode_image(image, p):
  """One image [H, W, 3] to [E]."""
  return last(transformer(first_tokens(image, p), p['transformer']), p)


def integrate(x, p):
  """A transformer head on the embeddings [T, E] of frames."""
  return (x + transformer(x + p['positional_embedding'], p['transformer'])).mean(0)


def encode_text(tokens, p):
  """One text, a list of ids, to [E]."""
  x = p['token_embedding']['embedding'][tokens] + p['positional_embedding'][: len(tokens)]
  x = layer_norm(transformer(x, p['transformer'], causal=True), p['ln_final'])
  return dense(x[int(np.argmax(tokens))], p['text_projection'])


def unit(x):
  return x / np.linalg.norm(x)
