"""Tokenizers, prompt templates and class texts."""
