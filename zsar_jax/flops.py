"""The floating-point operations of a model, by its dimensions, and what devices can do."""

from collections.abc import Sequence

from zsar_jax.models.presets import ClipSpec, VideoSpec

# Dense bfloat16 operations per second of one device, by the start of JAX's `device_kind`, the
# longest that fits. Published: cloud.google.com/tpu/docs/system-architecture-tpu-vm (v4, v5e, v5p,
# v6e), NVIDIA's data sheets of A100, H100 (SXM, PCIe) and H200, without sparsity.
PEAKS = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5': 459e12,
  'TPU v5p': 459e12,
  'TPU v6 lite': 918e12,
  'TPU v6e': 918e12,
  'NVIDIA A100': 312e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H100 80GB HBM3': 989e12,
  'NVIDIA H200': 989e12,
}


def peak(device_kind: str) -> float | None:
  """Operations per second of one device in bfloat16; None where it is not known."""
  known = [kind for kind in PEAKS if device_kind.startswith(kind)]
  return PEAKS[max(known, key=len)] if known else None


def transformer(width: int, layers: int, tokens: int) -> float:
  """The forward pass of one sequence: 12 D^2 weights a block, and attention of all to all.

  A product of [n, k] and [k, m] is 2 n k m operations; norms and the like are not counted. Causal
  attention is counted whole, as it is computed.
  """
  return layers * tokens * (24 * width**2 + 4 * tokens * width)


def frame(spec: ClipSpec, video: VideoSpec) -> float:
  """The forward pass of one frame through the image tower."""
  tokens = 1 + spec.num_patches + video.image_prompts
  patches = 2 * spec.num_patches * 3 * spec.patch**2 * spec.image_width
  project = 2 * spec.image_width * spec.embed_dim
  return patches + transformer(spec.image_width, spec.image_layers, tokens) + project


def clip(spec: ClipSpec, video: VideoSpec) -> float:
  """The forward pass of one clip; of X-CLIP without its messages and video prompts."""
  found = video.num_frames * frame(spec, video)
  if video.temporal in ('transformer', 'xclip'):
    found += transformer(spec.embed_dim, video.temporal_layers, video.num_frames)
  return found


def text(spec: ClipSpec, tokens: int) -> float:
  """The forward pass of one text of so many tokens."""
  return (
    transformer(spec.text_width, spec.text_layers, tokens) + 2 * spec.text_width * spec.embed_dim
  )


def training_step(
  spec: ClipSpec, video: VideoSpec, batch: int, texts: Sequence[int], texts_frozen: bool
) -> float:
  """An optimizer step: forward, and twice as much backward. What recomputation adds is not counted.

  Args:
    spec: the towers.
    video: what makes a video model of them.
    batch: clips.
    texts: (P, C, L), of which one template's C texts of L tokens are encoded.
    texts_frozen: whether none are.
  """
  classes = 0.0 if texts_frozen else texts[1] * text(spec, texts[2])
  return 3 * (batch * clip(spec, video) + classes)
