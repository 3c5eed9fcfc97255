"""CLIP towers, and the heads that turn the embeddings of frames into one of a clip."""
