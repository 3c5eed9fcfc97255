"""Image operations on clips, made to run inside a jitted step."""
