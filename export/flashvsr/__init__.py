"""FlashVSR in PyTorch, and its export to ONNX."""
