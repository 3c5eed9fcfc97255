"""Weights of other codebases, in and out: tables of key paths, and one way to convert."""
