"""Readers of weight files in every supported format."""
