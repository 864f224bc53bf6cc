"""FlashVSR: a session with state, from its networks to its tiles."""
