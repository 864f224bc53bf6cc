"""Weights from elsewhere, checked against their hash."""
