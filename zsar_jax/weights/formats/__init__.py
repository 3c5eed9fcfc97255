"""Reads and writes the weight formats of other codebases."""
