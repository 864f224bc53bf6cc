"""Tracks of sound on their way into the log."""
