"""The measurements of `zsar benchmark`, one module each."""
