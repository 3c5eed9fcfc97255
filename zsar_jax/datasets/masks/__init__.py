"""Mask sources: one module for each format of masks, and shared modules.

A source is opened once, in the process that plans the build. For each clip it gives a small value
that can be pickled: the clip's masks before they are read. The process that encodes the clip then
draws their region planes.
"""
