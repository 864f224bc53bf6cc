"""Exporters: weights in, verified ONNX graphs and manifests out. Nothing at run time imports them."""
