"""Network families: tensors, graphs, and reference implementations to check the graphs against."""
