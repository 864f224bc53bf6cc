"""Network families: their tensors, their graphs, and references to check the graphs against."""
