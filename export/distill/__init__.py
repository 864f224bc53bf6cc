"""Light networks distilled from a heavier one: media, patches, training, measures. Needs PyTorch; nothing at run time does."""
