"""FlashVSR's weights: tensor shapes, and readers of the weight files."""
