"""Exporters, which convert weights to verified ONNX graphs with manifests. No code that runs models imports them."""
