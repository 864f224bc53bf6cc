"""Writers and analysis of ONNX graphs."""
