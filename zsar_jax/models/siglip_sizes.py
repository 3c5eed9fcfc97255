"""Dimensions of SigLIP (arXiv 2303.15343) and SigLIP 2 (arXiv 2502.14786, table 1).

SigLIP 2 has the towers of SigLIP (big_vision, configs/proj/image_text), and Gemma's vocabulary.
"""

import types
from typing import Any


def _tower(name: str, width: int, layers: int, heads: int, mlp: int = 0) -> dict[str, int]:
  return {
    f'{name}_width': width,
    f'{name}_layers': layers,
    f'{name}_heads': heads,
    f'{name}_mlp': mlp,
  }


def _both(*sizes: int) -> dict[str, int]:
  """Returns fields of two towers of equal size."""
  return {'embed_dim': sizes[0], **_tower('image', *sizes), **_tower('text', *sizes)}


_B, _L = _both(768, 12, 12), _both(1024, 24, 16)
_SO400M = _both(1152, 27, 16, 4304)
# The text tower is that of So400m.
_G = _SO400M | _tower('image', 1536, 40, 16) | {'embed_dim': 1536}

# Of 384 pixels, the last 6 rows and columns would be in no patch of 14.
_SIGLIP = {
  'siglip_b16': {'resolution': 224, 'patch': 16} | _B,
  'siglip_l16': {'resolution': 256, 'patch': 16} | _L,
  'siglip_so400m_14': {'resolution': 378, 'patch': 14} | _SO400M,
  'siglip_so400m_14_224': {'resolution': 224, 'patch': 14, 'context_length': 16} | _SO400M,
}
_SIGLIP2 = {
  'siglip2_b16': {'resolution': 224, 'patch': 16} | _B,
  'siglip2_b32': {'resolution': 256, 'patch': 32} | _B,
  'siglip2_l16': {'resolution': 256, 'patch': 16} | _L,
  'siglip2_so400m_14': {'resolution': 378, 'patch': 14} | _SO400M,
  'siglip2_so400m_16': {'resolution': 256, 'patch': 16} | _SO400M,
  'siglip2_g16': {'resolution': 256, 'patch': 16} | _G,
}
_COMMON = {'context_length': 64, 'normalization': 'half', 'architecture': 'siglip'}

# Fields of `presets.TowerSpec`, by the name of the preset.
SIGLIP_SIZES: types.MappingProxyType[str, dict[str, Any]] = types.MappingProxyType(
  {name: _COMMON | {'vocab_size': 32_000} | fields for name, fields in _SIGLIP.items()}
  | {name: _COMMON | {'vocab_size': 256_000} | fields for name, fields in _SIGLIP2.items()}
)
