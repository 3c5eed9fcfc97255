"""The measurements of `python -m tools.benchmark`, one module each."""
