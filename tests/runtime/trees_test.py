"""Rules by path, and splitting trees."""

import jax
import numpy as np
import pytest

from zsar_jax.errors import UserError
from zsar_jax.runtime import trees

TREE = {'text': {'ln': {'scale': 1.0, 'bias': 2.0}}, 'visual': {'kernel': 3.0}, 'logit_scale': 4.0}


def test_the_first_matching_rule_counts():
  rules = (('text/ln/bias', 'a'), ('text/.*', 'b'), ('.*kernel', 'c'))
  values = trees.match_rules(rules, TREE, 'default', 'field')
  assert values == {
    'text': {'ln': {'scale': 'b', 'bias': 'a'}},
    'visual': {'kernel': 'c'},
    'logit_scale': 'default',
  }


@pytest.mark.parametrize('regex', ['text', 'txt/.*', '('])
def test_unmatched_rules_are_refused(regex):
  with pytest.raises(UserError, match='config.optim.lr_rules'):
    trees.match_rules(((regex, 0),), TREE, 1, 'config.optim.lr_rules')


def test_partition_and_merge():
  mask = trees.match_rules((('text/.*', False),), TREE, True, 'field')
  first, second = trees.partition(TREE, mask)
  assert jax.tree.leaves(first) == [4.0, 3.0]
  assert jax.tree.leaves(second) == [2.0, 1.0]
  assert trees.merge(first, second) == TREE
  arrays = jax.tree.map(np.float32, TREE)
  assert trees.merge(*trees.partition(arrays, mask)) == arrays
