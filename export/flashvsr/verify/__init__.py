"""Comparison of FlashVSR's graphs with PyTorch and with the public implementation."""
