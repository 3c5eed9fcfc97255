"""Registers two pictures of a scene that a moving camera took."""

import cv2
import numpy as np

# Tracked points: how many, how far apart in pixels, and how strong compared to the strongest.
_POINTS = 400
_POINT_DISTANCE = 7
_POINT_QUALITY = 0.01

# Points matched by ORB, which are less exact, but may lie anywhere.
_ORB_POINTS = 800

# Fewer pairs of points than this determine nothing.
_MIN_PAIRS = 12

# The distance in pixels up to which a pair agrees with a transform. The tracked points of a person
# who moves slowly differ from the camera's movement by little more than this.
_TRACK_TOLERANCE = 0.7
_ORB_TOLERANCE = 3.0

# The most samples that RANSAC draws. Second fits often use them all, as no transform exists.
_ROUNDS = 500

# Differences are cut at this many levels, so that what moves does not outweigh the scene.
_MAX_DIFFERENCE = 40

# By how much a transform with more parameters has to reduce the difference.
_GAIN = 0.03

# ORB is tried if the difference, in levels, is larger. That of unrelated frames is about 25.
_MAX_TRACKED_DIFFERENCE = 18

# The least share of a picture that the other has to show.
_MIN_OVERLAP = 0.3

# Local contrast is measured within this standard deviation in pixels. To the contrast, this many
# levels are added, so that the noise of plain surfaces is not amplified.
_CONTRAST_RADIUS = 8.0
_LEAST_CONTRAST = 4.0


def equalize_contrast(picture: np.ndarray) -> np.ndarray:
  """Returns u8[H, W], grey with the same contrast everywhere, of u8[H, W, 3].

  A person often has the strongest contrasts of a frame. Without this, most of the points that are
  tracked would be the person's, and the person's movement would be taken for that of the camera.
  """
  grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
  detail = grey - cv2.GaussianBlur(grey, (0, 0), _CONTRAST_RADIUS)
  contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _CONTRAST_RADIUS))
  return cv2.convertScaleAbs(detail / (contrast + _LEAST_CONTRAST) * 40 + 128)


def register(source: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Finds how the camera moved between two pictures.

  Shifts, similarities and homographies are fitted to tracked points. Of these and of no movement,
  the simplest is taken that makes the pictures agree; if none does, as after a fast movement, the
  same is done with points that are matched by ORB.

  Args:
    source: u8[H, W], as from `equalize_contrast`.
    target: u8[H, W], the same.

  Returns:
    f64[3, 3], the homography that maps (x, y, 1) of the source to the target. It may be wrong where
    the pictures show different scenes, or hardly anything.
  """
  still = np.eye(3)
  best, difference = _choose(source, target, [still, *_fit(*_track(source, target))])
  if difference <= _MAX_TRACKED_DIFFERENCE:
    return best
  for coarse in _fit(*_match(source, target), tolerance=_ORB_TOLERANCE):
    if _overlap(coarse, target.shape).mean() < _MIN_OVERLAP:
      continue
    fine = [fit @ coarse for fit in _fit(*_track(source, target, coarse))]
    other, other_difference = _choose(source, target, [coarse, *fine])
    if other_difference < difference:
      best, difference = other, other_difference
  return best


def _track(
  source: np.ndarray, target: np.ndarray, transform: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Tracks points by their optical flow, there and back again.

  Args:
    source: u8[H, W].
    target: u8[H, W].
    transform: is applied to the source first.

  Returns:
    f32[P, 2] and f32[P, 2], the same points (x, y) in the transformed source and in the target.
  """
  mask = None
  if transform is not None:
    source = cv2.warpPerspective(source, transform, source.shape[::-1])
    mask = cv2.erode(_overlap(transform, target.shape).view(np.uint8), np.ones((9, 9), np.uint8))
  points = cv2.goodFeaturesToTrack(source, _POINTS, _POINT_QUALITY, _POINT_DISTANCE, mask=mask)
  if points is None:
    return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
  points = np.asarray(points, np.float32)
  there, ahead = _flow(source, target, points)
  back, behind = _flow(target, source, there)
  reliable = ahead & behind & (np.abs(back - points).max((1, 2)) < 1)
  return points[reliable, 0], there[reliable, 0]


def _flow(
  source: np.ndarray, target: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns f32[P, 1, 2], where points move, and bool[P], whether they were seen again."""
  guess = np.empty_like(points)  # Not read.
  moved, seen, _ = cv2.calcOpticalFlowPyrLK(
    source, target, points, guess, winSize=(21, 21), maxLevel=4
  )
  return np.asarray(moved), np.asarray(seen).ravel() != 0


def _match(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Matches points that look alike, wherever they are; returns as `_track` does."""
  orb = cv2.ORB.create(_ORB_POINTS, fastThreshold=7)
  points, codes = orb.detectAndCompute(source, None)
  other_points, other_codes = orb.detectAndCompute(target, None)
  if codes is None or other_codes is None:
    return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
  matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes, other_codes)
  pairs = [(points[match.queryIdx].pt, other_points[match.trainIdx].pt) for match in matches]
  both = np.array(pairs, np.float32).reshape(-1, 2, 2)
  return both[:, 0].copy(), both[:, 1].copy()


def _fit(
  points: np.ndarray, others: np.ndarray, tolerance: float = _TRACK_TOLERANCE
) -> list[np.ndarray]:
  """Fits transforms to pairs of points.

  Args:
    points: f32[P, 2].
    others: f32[P, 2].
    tolerance: the distance in pixels up to which a pair agrees with a transform.

  Returns:
    f64[3, 3] each: a shift, a similarity and a homography that many pairs agree with, and the same
    for the other pairs, since the first may be those of a large person.
  """
  transforms = []
  for _ in range(2):
    if len(points) < _MIN_PAIRS:
      break
    moves = others - points
    # The shift that most pairs agree with.
    agree = np.abs(moves[:, None] - moves[None]).max(2) < tolerance
    shift = np.eye(3)
    shift[:2, 2] = moves[agree[agree.sum(1).argmax()]].mean(0)
    transforms.append(shift)
    similarity, _ = cv2.estimateAffinePartial2D(
      points, others, None, cv2.RANSAC, tolerance, maxIters=_ROUNDS
    )
    if similarity is not None:
      transforms.append(np.vstack([similarity, [0, 0, 1]]))
    homography, agrees = cv2.findHomography(points, others, cv2.RANSAC, tolerance, maxIters=_ROUNDS)
    if homography is None:
      break
    if agrees.sum() >= _MIN_PAIRS:
      transforms.append(np.asarray(homography))
    disagree = agrees.ravel() == 0
    points, others = points[disagree], others[disagree]
  return transforms


def _choose(
  source: np.ndarray, target: np.ndarray, transforms: list[np.ndarray]
) -> tuple[np.ndarray, float]:
  """Returns the transform of the smallest difference, and the difference.

  Args:
    source: u8[H, W].
    target: u8[H, W].
    transforms: f64[3, 3] each; a later one has to be better by `_GAIN`.
  """
  best, least = transforms[0], np.inf
  for transform in transforms:
    overlap = _overlap(transform, target.shape)
    if overlap.mean() < _MIN_OVERLAP or not _is_plausible(transform, target.shape):
      continue
    moved = cv2.warpPerspective(source, transform, target.shape[::-1])
    difference = np.minimum(cv2.absdiff(moved, target), _MAX_DIFFERENCE)[overlap].mean()
    if difference < least * (1 - _GAIN):
      best, least = transform, float(difference)
  return best, least


def _overlap(transform: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns bool[H, W], the pixels of a picture that show the transformed other picture."""
  inside = np.ones(shape, np.uint8)
  inside = cv2.warpPerspective(inside, transform, shape[::-1], flags=cv2.INTER_NEAREST)
  return cv2.erode(inside, np.ones((3, 3), np.uint8)) != 0


def _is_plausible(transform: np.ndarray, shape: tuple[int, ...]) -> bool:
  """Returns whether a picture stays convex and does not change its area by more than half."""
  height, width = shape
  corners = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], np.float32)
  moved = cv2.perspectiveTransform(corners, transform)
  area = cv2.contourArea(moved) / (height * width)
  return bool(np.isfinite(moved).all()) and cv2.isContourConvex(moved) and 0.5 < area < 2
