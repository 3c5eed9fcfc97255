"""CLIP towers and the heads that turn frames into a video."""
