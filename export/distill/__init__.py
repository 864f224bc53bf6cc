"""Distillation of light networks from a heavier one: media, patches, training, evaluation. Needs PyTorch."""
