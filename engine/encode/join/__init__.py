"""Joining of a log into one file, on disk or as a stream while the log grows."""
