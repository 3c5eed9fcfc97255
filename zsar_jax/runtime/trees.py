"""Trees of arrays: rules by path, and splitting a tree by a mask.

Rules are `((regex, value), ...)`: a leaf takes the value of the first regex that matches its full
path, such as 'visual/transformer/resblocks/0/attn/query/kernel'.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from zsar_jax.errors import UserError

Rules = Sequence[tuple[str, Any]]


def path_name(path: tuple) -> str:
  """Returns a key path as 'a/b/c'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """Maps `function(path, leaf)` over a tree."""
  return jax.tree_util.tree_map_with_path(lambda path, leaf: function(path_name(path), leaf), tree)


def match_rules(rules: Rules, tree: Any, default: Any, field: str) -> Any:
  """Returns a tree with the rules' values in the place of the leaves.

  Args:
    rules: see the module's docstring.
    tree: gives the paths.
    default: the value of leaves that no rule matches.
    field: the config field that the rules come from, for errors.

  Raises:
    UserError: for a regex that does not compile, or that matches no leaf's path: an unmatched rule
      is almost always a typo, and ignoring it would train something other than what the user wants.
  """
  patterns = []
  for rule in rules:
    try:
      regex, value = rule
      patterns.append((re.compile(regex), value))
    except (TypeError, ValueError, re.error) as error:
      raise UserError(f'{field}: {rule!r} is no (regular expression, value) ({error})') from None
  paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
  for pattern, _ in patterns:
    if not any(pattern.fullmatch(path) for path in paths):
      raise UserError(
        f'{field}: {pattern.pattern!r} matches no parameter; a regex must match the full path,'
        f' such as {paths[0]!r}'
      )

  def value_of(path: str, _: Any) -> Any:
    return next((value for pattern, value in patterns if pattern.fullmatch(path)), default)

  return map_with_path(value_of, tree)


def partition(tree: Any, mask: Any) -> tuple[Any, Any]:
  """Splits a tree by a tree of bools: (where true, where false), with None for other leaves."""
  return (
    jax.tree.map(lambda leaf, keep: leaf if keep else None, tree, mask),
    jax.tree.map(lambda leaf, keep: None if keep else leaf, tree, mask),
  )


def merge(first: Any, second: Any) -> Any:
  """Inverts `partition`."""
  return jax.tree.map(
    lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
  )
