"""From raw videos, annotations and masks to batches of uint8 clips."""
