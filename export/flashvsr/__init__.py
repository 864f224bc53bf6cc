"""FlashVSR's export to ONNX, and its reference implementation in PyTorch."""
