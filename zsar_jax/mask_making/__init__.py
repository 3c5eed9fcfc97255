"""Makes masks from raw videos: detectors, segmenters, and other makers of region planes.

Models run in PyTorch through `transformers` (extra `masks`); nothing else in this project imports
either. `maker` defines the interface of a maker, `makers` creates the maker that a user asks for,
and `making` runs it over the videos.
"""
