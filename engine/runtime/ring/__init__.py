"""Runs under way on a device: while one computes, the next is copied in and the last is copied out."""
