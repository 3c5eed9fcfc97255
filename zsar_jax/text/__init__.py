"""Tokenizers, prompts and class texts."""
