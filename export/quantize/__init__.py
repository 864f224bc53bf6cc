"""Networks computed in int8: media to calibrate on, scales moved between layers, weights rounded, layers chosen. Needs PyTorch."""
