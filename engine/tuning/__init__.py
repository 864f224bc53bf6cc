"""Measurement of all ways in which this machine can run a network, on frames of one size, for `upres tune` and `selftest`."""
