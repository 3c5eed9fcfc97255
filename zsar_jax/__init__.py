"""zsar_jax: does a zero-shot recogniser see the action, or only the scene and the objects?"""
