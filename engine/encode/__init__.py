"""Frames to fragments and files: video, audio, carried tracks, and the join."""
