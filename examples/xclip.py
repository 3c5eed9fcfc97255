"""X-CLIP as transformers implements it, for `zsar eval --model=examples.xclip:load`."""

import numpy as np
import torch
from transformers import AutoTokenizer, XCLIPModel

NAME = 'microsoft/xclip-base-patch32'  # 8 frames of 224 x 224 pixels.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # Of ImageNet.


class XClip:
  def __init__(self, name: str):
    self.model = XCLIPModel.from_pretrained(name).eval()
    self.tokenizer = AutoTokenizer.from_pretrained(name)

  @torch.inference_mode()
  def score(self, frames: np.ndarray, texts: list[str]) -> np.ndarray:
    """Maps frames u8[B, T, H, W, 3] and C texts to scores f32[B, C]."""
    pixels = torch.from_numpy((frames / 255 - MEAN) / STD).float().permute(0, 1, 4, 2, 3)
    tokens = self.tokenizer(texts, padding=True, return_tensors='pt')
    return self.model(pixel_values=pixels, **tokens).logits_per_video.numpy()


def load() -> XClip:
  return XClip(NAME)
