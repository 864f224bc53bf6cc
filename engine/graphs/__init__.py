"""ONNX graphs read, edited and written."""
