"""The peer's side of the benchmarks of models: Hugging Face's CLIP, as ViFi-CLIP trains it.

ViFi-CLIP (github.com/muzairkhattak/ViFi-CLIP) encodes all class texts, padded to 77 tokens, in the
forward pass of each micro-batch, and uses automatic mixed precision with CUDA. On a GPU this side
has PyTorch's fused AdamW and attention (SDPA), and prepares its frames there too. It runs in a
process of its own.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from zsar_jax.ops.photometric import CLIP_MEAN, CLIP_STD
from zsar_jax.recipes.regions import OBJECT, PERSON

from . import workload
from .turns import Lazy, Loop
from .workload import Workload


def loops(work: Workload) -> Lazy:
  """Returns the loops of the peer's side, by name; 'compiled_...' use torch.compile."""
  torch.set_num_threads(len(work.cores))
  eager, compiled = (_Peer(work, compile_it) for compile_it in (False, True))
  makers: dict[str, Callable[[], Loop]] = {
    'eval': eager.evaluation,
    'normalize': lambda: eager.prepared(masked=False),
    'mask': lambda: eager.prepared(masked=True),
    'text_longest': lambda: eager.texts(padded=False),
  }
  for prefix, peer in (('', eager), ('compiled_', compiled)):
    makers |= {
      f'{prefix}step': peer.step,
      f'{prefix}forward': peer.forward,
      f'{prefix}text': peer.texts,
    }
  return Lazy(
    makers, torch.cuda.max_memory_allocated if torch.cuda.is_available() else lambda: None
  )


class _Video(torch.nn.Module):
  """ViFi-CLIP: the mean of the embeddings that CLIP gives to the frames."""

  def __init__(self, clip: torch.nn.Module):
    super().__init__()
    self.clip: Any = clip  # PyTorch types the attributes of a module as tensors or modules.

  def forward(self, video: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Returns logits f[B, C].

    Args:
      video: f[B, T, 3, H, W].
      texts: tokens i64[C, L], or their embeddings f[C, E].
    """
    batch = video.shape[0]
    frames = self.frames(video.flatten(0, 1)).unflatten(0, (batch, -1)).mean(1)  # [B, E]
    texts = self.texts(texts) if texts.dtype == torch.int64 else texts
    frames = torch.nn.functional.normalize(frames, dim=-1)
    return self.clip.logit_scale.exp() * frames @ texts.T

  def frames(self, images: torch.Tensor) -> torch.Tensor:
    """Returns the embeddings f[N, E] of `images`, f[N, 3, H, W]."""
    return self.clip.visual_projection(self.clip.vision_model(pixel_values=images).pooler_output)

  def texts(self, tokens: torch.Tensor) -> torch.Tensor:
    """Returns the normalized embeddings f[C, E] of `tokens`, i64[C, L]."""
    pooled = self.clip.text_model(input_ids=tokens).pooler_output
    return torch.nn.functional.normalize(self.clip.text_projection(pooled), dim=-1)


class _Peer:
  def __init__(self, work: Workload, compile_it: bool):
    self._work, self._compile = work, compile_it
    self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    precision = 'high' if work.precision == 'tensorfloat32' else 'highest'
    torch.set_float32_matmul_precision(precision)  # 'high' is TF32.
    batch = workload.clips(work)
    self._batch = {
      name: torch.from_numpy(batch[name]).to(self._device) for name in ('frames', 'regions')
    }
    self._labels = torch.from_numpy(batch['label']).long().to(self._device)
    short = workload.tokens(work).astype(np.int64)
    padding = work.spec.context_length - short.shape[-1]
    self._short_tokens = torch.from_numpy(short).to(self._device)  # [P, C, L]
    self._tokens = torch.nn.functional.pad(self._short_tokens, (0, padding))  # [P, C, 77]
    mean, std = (torch.tensor(rgb)[:, None, None] for rgb in (CLIP_MEAN, CLIP_STD))  # [3, 1, 1]
    self._scale, self._black = (x.to(self._device) for x in (1 / std, -mean / std))
    self._model: _Video | None = None

  def _video_model(self) -> _Video:
    if self._model is None:
      clip = transformers.CLIPModel.from_pretrained(self._work.weights, attn_implementation='sdpa')
      self._model = _Video(clip)
      self._model.to(self._device)
    return self._model

  def _maybe_compiled(self, function: Any) -> Any:
    return torch.compile(function) if self._compile else function

  def _amp(self) -> Any:
    if self._device.type == 'cuda' and self._work.precision == 'bfloat16':
      return torch.autocast('cuda', torch.bfloat16)
    return contextlib.nullcontext()

  def step(self) -> Loop:
    """Runs an optimizer step; returns its loss."""
    model = self._video_model().train()
    run = self._maybe_compiled(model)
    fused = self._device.type == 'cuda'
    optimizer = torch.optim.AdamW(
      model.parameters(), lr=8e-6, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.001, fused=fused
    )
    parts = self._work.micro_batches

    def loop() -> float:
      total = 0.0
      for n in range(parts):
        with self._amp():
          logits = run(self._normalized(slice(n, None, parts)), self._tokens[0])
          loss = torch.nn.functional.cross_entropy(logits, self._labels[n::parts]) / parts
        loss.backward()
        total += loss.detach()
      optimizer.step()
      optimizer.zero_grad()
      if self._device.type == 'cuda':
        torch.cuda.synchronize()  # Waits for the whole step, not for its loss alone.
      return float(total)

    return loop

  def forward(self) -> Loop:
    """Computes the logits of the batch with ready class embeddings; returns their mean."""
    model = self._video_model().eval()
    run, texts = self._maybe_compiled(model), self._embeddings(model)

    @torch.inference_mode()
    def loop() -> float:
      with self._amp():
        return float(run(self._normalized(slice(None)), texts).mean())

    return loop

  def evaluation(self) -> Loop:
    """Computes the logits of the batch under each recipe, one pass after the other."""
    model = self._video_model().eval()
    texts = self._embeddings(model)

    @torch.inference_mode()
    def loop() -> float:
      total = 0.0
      for name in self._work.recipes:
        video = self._normalized(slice(None))
        if name != 'none':
          region, _, fill = name.partition('=')
          color = self._black if fill == 'black' else torch.zeros_like(self._black)
          video = torch.where(self._covered(region), color, video)
        with self._amp():
          total += model(video, texts).mean()
      return float(total)

    return loop

  def prepared(self, masked: bool) -> Loop:
    """Normalizes clips; `masked` paints background and object, each in a random color per clip."""

    def loop() -> float:
      video = self._normalized(slice(None))
      if masked:
        shape = (2, len(video), 1, 3, 1, 1)
        background_color, object_color = torch.randn(shape, device=self._device)
        video = torch.where(self._covered('background'), background_color, video)
        video = torch.where(self._covered('object'), object_color, video)
      return float(video[..., 0, 0].mean())

    return loop

  def texts(self, padded: bool = True) -> Loop:
    """Encodes all class texts, template by template; returns the mean."""
    model = self._video_model().eval()
    encode = self._maybe_compiled(model.texts)
    tokens = self._tokens if padded else self._short_tokens

    @torch.inference_mode()
    def loop() -> float:
      with self._amp():
        means = [encode(template).mean() for template in tokens]
        return float(sum(means) / len(means))

    return loop

  @torch.no_grad()
  def _embeddings(self, model: _Video) -> torch.Tensor:
    with self._amp():
      total: Any = sum(model.texts(template) for template in self._short_tokens)
      return total / len(self._short_tokens)

  def _normalized(self, rows: slice) -> torch.Tensor:
    """Returns normalized clips f32[B, T, 3, H, W]."""
    video = self._batch['frames'][rows].permute(0, 1, 4, 2, 3).float() / 255
    return video * self._scale + self._black

  def _covered(self, region: str) -> torch.Tensor:
    """Returns bool[B, T, 1, H, W]: where a region is seen; people cover objects."""
    regions = self._batch['regions'][:, :, None]
    if region == 'person':
      return (regions & PERSON) != 0
    return (regions & (PERSON | OBJECT)) == (OBJECT if region == 'object' else 0)
