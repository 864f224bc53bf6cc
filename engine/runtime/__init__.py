"""Graphs on devices. Knows tensors, not frames."""
