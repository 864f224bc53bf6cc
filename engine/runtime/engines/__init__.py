"""Engines of the TensorRT family as files: what stands beside one, and what is compared before a frame goes through it."""
