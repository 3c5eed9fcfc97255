"""Figures that tell whether a model saw the action."""
