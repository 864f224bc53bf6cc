"""FlashVSR's weights: which tensors there are, and the files they come in."""
