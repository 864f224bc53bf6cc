"""FlashVSR's graphs compared with PyTorch and with the public implementation."""
