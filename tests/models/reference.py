"""CLIP written down in NumPy from its description, in f64, to compare the models with."""

import math

import numpy as np


def layer_norm(x, p):
  centred = x - x.mean(-1, keepdims=True)
  deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
  return centred / deviation * p['scale'] + p['bias']


def dense(x, p):
  return x @ p['kernel'] + p.get('bias', 0)


def attention(x, p, causal):
  """One sequence `x: [L, D]`, one head and one query at a time."""
  length, width = x.shape
  heads = p['query']['kernel'].shape[1]
  out = np.zeros((length, width))
  for h in range(heads):
    q, k, v = (
      x @ p[name]['kernel'][:, h] + p[name]['bias'][h] for name in ('query', 'key', 'value')
    )
    for i in range(length):
      seen = i + 1 if causal else length
      scores = np.array([q[i] @ k[j] for j in range(seen)]) / math.sqrt(width // heads)
      weights = np.exp(scores - scores.max())
      out[i] += weights @ v[:seen] / weights.sum() @ p['out']['kernel'][h]
  return out + p['out']['bias']


def transformer(x, p, causal=False):
  """Residual blocks in the order of their numbers on one sequence `x: [L, D]`."""
  for i in range(len(p['resblocks'])):
    block = p['resblocks'][str(i)]
    x = x + attention(layer_norm(x, block['ln_1']), block['attn'], causal)
    hidden = dense(layer_norm(x, block['ln_2']), block['mlp']['c_fc'])
    x = x + dense(hidden / (1 + np.exp(-1.702 * hidden)), block['mlp']['c_proj'])
  return x


def encode_image(image, p):
  """One image [H, W, 3] to [E], the convolution one patch at a time."""
  kernel = p['conv1']['kernel']
  size, width = kernel.shape[0], kernel.shape[-1]
  tokens = [p['class_embedding']]
  for top in range(0, image.shape[0], size):
    for left in range(0, image.shape[1], size):
      patch = image[top : top + size, left : left + size]
      tokens.append(np.array([(patch * kernel[..., d]).sum() for d in range(width)]))
  x = layer_norm(np.stack(tokens) + p['positional_embedding'], p['ln_pre'])
  return dense(layer_norm(transformer(x, p['transformer']), p['ln_post'])[0], p['proj'])


def encode_text(tokens, p):
  """One text, a list of ids, to [E]."""
  x = p['token_embedding']['embedding'][tokens] + p['positional_embedding'][: len(tokens)]
  x = layer_norm(transformer(x, p['transformer'], causal=True), p['ln_final'])
  return dense(x[int(np.argmax(tokens))], p['text_projection'])


def unit(x):
  return x / np.linalg.norm(x)
