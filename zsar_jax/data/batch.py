"""Batches of clips: the arrays that pass from the input pipeline to the device.

A batch is a dict of arrays, B clips of T frames:

    frames     u8[B, T, S, S, 3]   RGB
    regions    u8[B, T, S, S]      region planes, with the frames' geometry
    annotated  bool[B, T]          whether a frame's plane says anything
    label      i32[B]              the class, in the subset's vocabulary
    seed       u32[B]              the clip's own random number, for all that is random on device
    clip       i32[B]              the clip's place in the subset
    weight     f32[B]              1, or 0 for the padding of the last evaluation batch

Where clips meet others in an evaluation, a batch has partner_frames, partner_regions and
partner_annotated as well. A training batch has

    replaced   i32[B]              the clip in whose place this one stands, as it does not decode;
                                   -1 where none was replaced
"""

import numpy as np

Batch = dict[str, np.ndarray]

# The prefix of the arrays of a clip's partner.
PARTNER = 'partner_'
