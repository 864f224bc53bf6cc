"""FlashVSR's ONNX graphs."""
