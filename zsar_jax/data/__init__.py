"""Reads data sets: from records on disk to batches of uint8 clips on the host."""
