"""CLIP in NumPy and f64, written from its description, as a reference for the models."""

import math

import numpy as np


def layer_norm(x, p):
  centered = x - x.mean(-1, keepdims=True)
  deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
  return centered / deviation * p['scale'] + p['bias']


def dense(x, p):
  return x @ p['kernel'] + p.get('bias', 0)


def attend(x, keys, values, p, visible=None):
  """Attends from `x: [L, D]` to `keys` and `values: [M, H, d]`, by loops over heads and queries."""
  heads = keys.shape[1]
  out = np.zeros((len(x), p['out']['kernel'].shape[-1]))
  for h in range(heads):
    q = x @ p['query']['kernel'][:, h] + (p['query']['bias'][h] if 'bias' in p['query'] else 0)
    for i in range(len(x)):
      end = visible(i) if visible else len(keys)
      scores = np.array([q[i] @ key for key in keys[:end, h]]) / math.sqrt(keys.shape[2])
      weights = np.exp(scores - scores.max())
      out[i] += weights @ values[:end, h] / weights.sum() @ p['out']['kernel'][h]
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
  """Applies residual blocks to a sequence `x: [L, D]`, in the order of their numbers."""
  for i in range(len(p['resblocks'])):
    block = p['resblocks'][str(i)]
    x = x + attention(layer_norm(x, block['ln_1']), block['attn'], causal)
    x = x + mlp(layer_norm(x, block['ln_2']), block)
  return x


def embed_patches(image, p):
  """Maps an image [H, W, 3] to tokens with positions, by a loop over patches."""
  kernel = p['conv1']['kernel']
  size, width = kernel.shape[0], kernel.shape[-1]
  tokens = [p['class_embedding']]
  for top in range(0, image.shape[0], size):
    for left in range(0, image.shape[1], size):
      patch = image[top : top + size, left : left + size]
      tokens.append(np.array([(patch * kernel[..., d]).sum() for d in range(width)]))
  return np.stack(tokens) + p['positional_embedding']


def first_tokens(image, p, prompts=None):
  """Maps an image [H, W, 3] to the input of the first block."""
  x = embed_patches(image, p)
  if prompts is not None:
    x = np.concatenate([x, prompts])
  return layer_norm(x, p['ln_pre'])


def embed_image(x, p):
  """Returns the embedding [E] of an image, given the tokens after the last block."""
  return dense(layer_norm(x[0], p['ln_post']), p['proj'])


def encode_image(image, p):
  """Encodes an image [H, W, 3] to [E]."""
  return embed_image(transformer(first_tokens(image, p), p['transformer']), p)


def integrate(x, p):
  """Applies a transformer head to the embeddings [T, E] of frames."""
  return (x + transformer(x + p['positional_embedding'], p['transformer'])).mean(0)


def encode_text(tokens, p):
  """Encodes a text, given as a list of ids, to [E]."""
  x = p['token_embedding']['embedding'][tokens] + p['positional_embedding'][: len(tokens)]
  x = layer_norm(transformer(x, p['transformer'], causal=True), p['ln_final'])
  return dense(x[int(np.argmax(tokens))], p['text_projection'])


def unit(x):
  return x / np.linalg.norm(x)
