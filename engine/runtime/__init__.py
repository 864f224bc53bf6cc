"""Execution of graphs on devices. Deals with tensors, not frames."""
