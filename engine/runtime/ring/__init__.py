"""Asynchronous runs of a graph on a device: while one is computed, the next is copied in and the previous one is copied out."""
