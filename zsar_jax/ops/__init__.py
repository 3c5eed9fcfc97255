"""Augmentation and masking of clips on the device, as pure functions under jit."""
