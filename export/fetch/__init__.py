"""Getting weights: downloads checked against their hash."""
