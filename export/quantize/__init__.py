"""Quantization of networks to int8: calibration media, balancing of scales, weight rounding, choice of layers. Needs PyTorch."""
