"""Command-line programs around the trainer: python -m tools.NAME."""
