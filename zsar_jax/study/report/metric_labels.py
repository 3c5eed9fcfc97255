"""Titles and meanings of the metrics that the report shows."""

import dataclasses

from zsar_jax.study.report.foreign_text import isolated

ACCURACIES = {
  'top1': 'top-1',
  'top5': 'top-5',
  'mean_class': 'mean class',
  'multiple_choice': 'multiple choice',
}


@dataclasses.dataclass(frozen=True)
class Label:
  """How a bias metric is labeled.

  Attributes:
    title: its name.
    better: 'lower' or 'higher', the better direction; '' if neither is better.
    meaning: the quantity that it measures.
  """

  title: str
  better: str
  meaning: str

  @property
  def arrow(self) -> str:
    """Points in the better direction."""
    return {'lower': '\u2193', 'higher': '\u2191', '': ''}[self.better]


RATES = {
  'BOR': Label(
    'BOR, background only',
    'lower',
    'accuracy with the people painted over, as a share of the accuracy on unpainted clips',
  ),
  'HOR': Label(
    'HOR, human only',
    'higher',
    'accuracy with the background painted over, as a share of the accuracy on unpainted clips',
  ),
  'SHAcc': Label(
    'SHAcc, swapped background',
    'higher',
    'how often the action is named in front of the background of another clip',
  ),
  'SBErr': Label(
    'SBErr, swapped background',
    'lower',
    "how often the background clip's class is named instead of the action",
  ),
  'background_wins': Label(
    'Background wins', 'lower', "how often the background clip's class ranks before the action"
  ),
  'SCUBA': Label('SCUBA', 'higher', 'how often the action is named in front of stripes'),
  'SCUFO': Label(
    'SCUFO', 'lower', 'how often it is named in front of stripes from one repeated frame'
  ),
  'contrasted': Label(
    'Contrasted accuracy', 'higher', 'how often a clip is right in SCUBA and wrong in SCUFO'
  ),
  'recolour': Label(
    'Recolor consistency',
    'higher',
    'how often the answer is the same for two colors of the background',
  ),
}
GAPS = {
  'rank_gap': Label(
    'Rank gap', 'lower', "rank of the action minus rank of the background clip's class"
  ),
  'score_gap': Label(
    'Score gap', 'higher', "logit of the action minus logit of the background clip's class"
  ),
}
# Differences of two of the metrics above, by which models are ranked.
DIFFERENCES = {
  'SHAcc-SBErr': Label(
    'SHAcc minus SBErr',
    'higher',
    'how much more often the action is named in front of the background of another clip than the'
    " background clip's class",
  ),
  'HOR-BOR': Label(
    'HOR minus BOR',
    'higher',
    'how much more of the accuracy remains with the background painted over than with the people'
    ' painted over',
  ),
}

# Metrics of a recipe. In study.json it stands in brackets behind the name: 'drop[reverse]'.
ORDER = {
  'drop': Label('Relative drop', '', 'share of its accuracy that the model loses'),
  'flips': Label('Flip rate', '', 'how often the answer changes'),
  'TSS': Label('Temporal Sensitivity Score', '', 'how often a right answer changes'),
  'static_share': Label('Static share', 'lower', 'share of its accuracy that the model keeps'),
}
BY_RECIPE = {
  'resist': Label(
    'Resist Rate', 'higher', 'how often an answer that is right on the unpainted clip stays right'
  ),
  'chiral': Label(
    'Chiral pairs', 'higher', 'how often an action ranks before its reversal, mean over the groups'
  ),
}


def find_label(metric: str) -> Label | None:
  """Returns the label of a metric of study.json, with the metric's recipe; None without a label."""
  name, bracket, recipe = metric.partition('[')
  if not bracket:
    return (RATES | GAPS | DIFFERENCES).get(metric)
  label = (ORDER | BY_RECIPE).get(name)
  title = f', {isolated(recipe.removesuffix("]"))}'
  return label and dataclasses.replace(label, title=label.title + title)
