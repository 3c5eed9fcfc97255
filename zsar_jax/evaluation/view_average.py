"""Averages the predictions of a clip's views."""

import numpy as np


class ViewAverage:
  """The mean over each clip's views, in logits.

  The mean is that of the views' class probabilities, as in X-CLIP's and ViFi-CLIP's code, or that
  of their logits, as in Open-VCLIP's and FROSTER's code (SlowFast's `TestMeter`). With a single
  view its logits are kept bit for bit.

  Attributes:
    logits: f32[N, C]; valid for clips whose views were all added. The logarithm of the mean
      probability with 'probabilities'.
  """

  def __init__(self, clips: int, classes: int, views: int, mean: str):
    """Starts without any view.

    Args:
      clips: the number of clips, N.
      classes: the number of classes, C.
      views: the number of views of every clip.
      mean: 'probabilities' or 'logits', see `config.eval.view_mean`.
    """
    if views == 1:
      initial, self._add = np.nan, self._set
    elif mean == 'logits':
      initial, self._add = 0.0, self._add_logits
    else:
      initial, self._add = -np.inf, self._add_probabilities
    self.logits = np.full((clips, classes), initial, np.float32)
    self._views = np.float32(views)

  def add(self, clips: np.ndarray, logits: np.ndarray) -> None:
    """Adds views.

    Args:
      clips: i32[B], the clip of each view; several views may have the same clip.
      logits: f32[B, C], of each view.
    """
    self._add(clips, logits)

  def _set(self, clips: np.ndarray, logits: np.ndarray) -> None:
    self.logits[clips] = logits

  def _add_logits(self, clips: np.ndarray, logits: np.ndarray) -> None:
    np.add.at(self.logits, clips, logits / self._views)

  def _add_probabilities(self, clips: np.ndarray, logits: np.ndarray) -> None:
    """Adds in the logarithm of the probabilities, where none of them underflows to 0."""
    # A view whose logits are not finite makes its clip's logits NaN: the clip counts as wrong.
    with np.errstate(invalid='ignore'):
      shifted = logits - logits.max(axis=1, keepdims=True)
      normalizer = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) + np.log(self._views)
      for clip, log_probabilities in zip(clips, shifted - normalizer, strict=True):
        self.logits[clip] = np.logaddexp(self.logits[clip], log_probabilities)
