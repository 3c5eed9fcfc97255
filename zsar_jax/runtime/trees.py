"""Trees of arrays: path-regex rules, and splitting a tree by a mask.

Rules are `((regex, value), ...)`: a leaf takes the value of the first regex that matches its
whole path, such as 'visual/transformer/resblocks/0/attn/query/kernel'.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from zsar_jax.errors import UserError

Rules = Sequence[tuple[str, Any]]


def path_name(path: tuple) -> str:
  """A key path as 'a/b/c'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def map_with_path(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """Maps `function(path, leaf)` over a tree."""
  return jax.tree_util.tree_map_with_path(lambda path, leaf: function(path_name(path), leaf), tree)


def match_rules(rules: Rules, tree: Any, default: Any, field: str) -> Any:
  """A tree of the rules' values.

  Args:
    rules: see the head of this file.
    tree: gives the paths.
    default: the value where no rule matches.
    field: the config field that the rules come from, for errors.

  Raises:
    UserError: for a rule whose regex does not compile or that no leaf's path matches: such
      a rule is a slip of the pen, and ignoring it would train something else than was asked.
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
        f'{field}: {pattern.pattern!r} matches no parameter; the paths look like'
        f' {paths[0]!r} and must match whole'
      )

  def value_of(path: str, _: Any) -> Any:
    return next((value for pattern, value in patterns if pattern.fullmatch(path)), default)

  return map_with_path(value_of, tree)


def partition(tree: Any, mask: Any) -> tuple[Any, Any]:
  """Splits a tree by a tree of bools: (where true, where false), with None in the gaps."""
  return (
    jax.tree.map(lambda leaf, keep: leaf if keep else None, tree, mask),
    jax.tree.map(lambda leaf, keep: None if keep else leaf, tree, mask),
  )


def merge(first: Any, second: Any) -> Any:
  """The inverse of `partition`."""
  return jax.tree.map(
    lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
  )
