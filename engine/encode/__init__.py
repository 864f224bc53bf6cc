"""Encoding of frames to fragments and files: video, audio, other tracks copied from the source, and joining of a log."""
