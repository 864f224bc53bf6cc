"""Weight files of every format to named tensors."""
