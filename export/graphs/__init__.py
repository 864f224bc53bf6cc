"""Writing and analyzing ONNX graphs."""
