"""Engines built ahead of time with the TensorRT family."""
