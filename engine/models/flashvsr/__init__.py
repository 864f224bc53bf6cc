"""FlashVSR: a model with state, from its networks and tiles to its session."""
