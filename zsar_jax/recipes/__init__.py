"""Mask recipes and region planes, on which data, operations and reports build."""
