"""How the pixels of a clip are sampled, cropped and resized, in training and in evaluation."""

import dataclasses

from ml_collections import ConfigDict

from zsar_jax.data.geometry import INTERPOLATIONS, RESIZES
from zsar_jax.data.sampling import SAMPLINGS
from zsar_jax.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class View:
  """How a clip becomes T frames of S x S pixels; mirrors the fields of `config.view`.

  Attributes:
    num_frames: T.
    size: S, in pixels.
    sampling: which frames an evaluation takes, see `sampling.evaluation_indices`. Training takes a
      random frame of each segment.
    interpolation: 'bilinear' or 'bicubic', for frames; planes always take the nearest pixel.
    crop_scale: in training, the smallest and largest share of the frame's area that is kept.
    crop_ratio: in training, the smallest and largest width / height of the crop.
    crop_side: in training, the smallest and largest side of a square crop, as a share of the
      frame's short side; (0, 0) crops as `crop_scale` and `crop_ratio` say.
    resize: in evaluation, 'shortest' cuts a square out of a frame; 'squash' resizes the full frame
      to a square, whatever its shape.
    centre_crop: in evaluation, the side of the central crop, as a share of the short side; with
      'squash', as a share of each side.
    unannotated: what happens to a frame without annotation: it takes the planes of the
      'nearest' annotated frame, stays unmasked ('leave'), or its clip is left out ('drop').
  """

  num_frames: int = setting(8, low=1, high=4096)
  size: int = setting(224, low=1, high=8192)
  sampling: str = setting('segments', choices=SAMPLINGS)
  interpolation: str = setting('bilinear', choices=INTERPOLATIONS)
  crop_scale: tuple[float, float] = setting((0.4, 1.0), low=0.01, high=1)
  crop_ratio: tuple[float, float] = setting((0.75, 4 / 3), low=0.1, high=10)
  crop_side: tuple[float, float] = setting((0.0, 0.0), low=0, high=1)
  resize: str = setting('shortest', choices=RESIZES)
  centre_crop: float = setting(224 / 256, low=0.01, high=1)
  unannotated: str = setting('nearest', choices=('nearest', 'leave', 'drop'))

  @classmethod
  def from_config(cls, config: ConfigDict) -> 'View':
    """Returns the view of `config.view`."""
    return cls(**config.view)


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
  """The views of each clip whose outputs an evaluation averages; nothing in them is random.

  Attributes:
    clips: V, the number of views in time. View j takes from each segment the frame at
      (j + 0.5) / V of the segment's length; a single view takes the frames of `View.sampling`.
    crops: the number of squares cut from each frame: 1 for the central one; 3 for those at the
      start, in the middle and at the end of the frame's long side.
  """

  clips: int = setting(1, low=1, high=1000)
  crops: int = setting(1, choices=(1, 3))

  def __len__(self) -> int:
    return self.clips * self.crops

  def offsets(self, number: int) -> tuple[float, float]:
    """Returns a view's offsets in each segment and on the long side, both in [0, 1]."""
    time, crop = divmod(number, self.crops)
    return (time + 0.5) / self.clips, crop / 2 if self.crops == 3 else 0.5


SINGLE_VIEW = EvaluationViews()
