"""Drawn clips with masks as `zsar make-masks --inpaint` makes them, and a data set of them."""

import contextlib
import dataclasses

import cv2
import numpy as np

from tools import build_dataset
from zsar_jax.data import records
from zsar_jax.datasets.masks import made_files
from zsar_jax.datasets.masks.made_files import MadeClip, MadeFrame, clip_path
from zsar_jax.datasets.video import make_thumbnail
from zsar_jax.recipes.regions import OBJECT, PERSON

HEIGHT, WIDTH, NUM_FRAMES = 24, 36, 6
NOBODY = 2  # A frame without a person.
UNKNOWN = 4  # A frame that is not annotated.
CLASSES = ('jumping', 'resting', 'turning', 'waving')
NO_MASKS = 'waving/unknown'

# Of the inpainted frames.
_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A drawn clip.

  Attributes:
    frames: u8[T, H, W, 3].
    planes: u8[T, H, W], also of the frame that is not annotated.
    inpainted: T JPEGs; b'' for a frame without a person, and for one that is not annotated.
    unknown: the frame that is not annotated.
  """

  frames: np.ndarray
  planes: np.ndarray
  inpainted: list[bytes]
  unknown: int | None


def draw(seed: int, unknown: int | None = UNKNOWN) -> Drawn:
  """Draws a red person and a green object that move over a scene in shades of blue.

  Args:
    seed: of the scene and of the places.
    unknown: the frame that is not annotated.
  """
  rng = np.random.default_rng(seed)
  shades = cv2.resize(rng.uniform(60, 255, (3, 4)), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
  scene = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  scene[..., 2] = shades
  planes = np.zeros((NUM_FRAMES, HEIGHT, WIDTH), np.uint8)
  top, left = rng.integers(2, 6), rng.integers(8, 12)
  frames, inpainted = [], []
  for t, plane in enumerate(planes):
    if t != NOBODY:
      plane[top : top + 12, left + t : left + t + 6] = PERSON
    plane[top + 8 : top + 12, left + 3 + t : left + 9 + t] |= OBJECT
    person = (plane & PERSON) != 0
    # An inpainter also changes a rim around people.
    hole = cv2.dilate(person.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    without = np.where((plane & OBJECT)[..., None] != 0, np.uint8([0, 255, 0]), scene)
    frames.append(np.where(person[..., None], np.uint8([255, 0, 0]), without))
    without = np.where(hole[..., None], np.uint8([200, 200, 0]), frames[-1])
    shown = t not in (NOBODY, unknown)
    inpainted += records.encode_frames([without], _QUALITY) if shown else [b'']
  return Drawn(np.stack(frames), planes, inpainted, unknown)


def write_clips(
  root,
  count: int = 4,
  inpaint: bool = True,
  scale: float = 1,
  unknown: int | None = UNKNOWN,
) -> dict[str, Drawn]:
  """Writes clips and their masks below `root`, and one more clip without masks.

  Args:
    root: a new folder; gets the folders videos and masks.
    count: the number of clips with masks.
    inpaint: whether the masks were made with --inpaint.
    scale: the size of masks and inpainted frames, as a multiple of the frames'.
    unknown: the frame of each clip that is not annotated.

  Returns:
    The clips with masks by id.
  """
  settings = {'regions': ['person', 'object'], 'maker': 'stub', 'about': 'drawn', 'licenses': {}}
  settings[made_files.INPAINTING] = {'method': 'drawn'} if inpaint else None
  (root / 'masks').mkdir(parents=True)
  made_files.write_settings(root / 'masks', settings)
  checksum = made_files.settings_checksum(settings)
  clips = {f'{CLASSES[n % len(CLASSES)]}/{n:02d}': draw(n, unknown) for n in range(count)}
  for name, clip in (*clips.items(), (NO_MASKS, draw(99))):
    (root / 'videos' / name).mkdir(parents=True)
    for t, frame in enumerate(clip.frames):
      cv2.imwrite(str(root / 'videos' / name / f'{t:04d}.png'), frame[..., ::-1])
    if name != NO_MASKS:
      write_masks(root / 'masks', name, clip, checksum, scale)
  return clips


def write_masks(folder, name: str, clip: Drawn, checksum: str, scale: float = 1) -> None:
  """Writes the masks of a clip."""
  size = round(WIDTH * scale), round(HEIGHT * scale)

  def scaled(image):
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT)

  made = []
  for t, (plane, jpeg) in enumerate(zip(clip.planes, clip.inpainted, strict=True)):
    if jpeg and scale != 1:
      jpeg = next(records.encode_frames([scaled(records.decode_frame(jpeg))], _QUALITY))
    code = b'' if t == clip.unknown else records.encode_plane(scaled(plane))
    made.append(MadeFrame(code, inpainted=jpeg))
  thumbnails = np.stack([make_thumbnail(frame) for frame in clip.frames])
  numbers = np.arange(NUM_FRAMES)
  masks = MadeClip(NUM_FRAMES, numbers, size[1], size[0], thumbnails, tuple(made))
  made_files.write_clip(clip_path(folder, name), masks, checksum)


def build(root, *flags: str) -> None:
  """Builds the data set 'scenes' in `root`/data from what `write_clips` wrote."""
  masks = [] if any(flag == '--masks' for flag in flags) else ['--masks', f'made:{root / "masks"}']
  arguments = ['--dataset=folder', '--name=scenes', f'--videos={root / "videos"}', *masks, *flags]
  with contextlib.redirect_stdout(None):
    build_dataset.main([*arguments, f'--out={root / "data"}', '--workers=0'])
