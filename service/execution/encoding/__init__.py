"""Encoders of a GPU that a worker opens for its attempts, which never talk to the driver themselves."""
