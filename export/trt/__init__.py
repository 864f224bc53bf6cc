"""Ahead-of-time builds of engines with TensorRT and TensorRT for RTX."""
