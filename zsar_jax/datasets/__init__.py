"""Builds data sets: from videos, lists and masks to records on disk."""
