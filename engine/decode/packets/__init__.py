"""Passes over a file's packets without decoding: its actual duration, and the times of its frames."""
