"""Processes that open strangers' media: forked from one that is ready, bounded, and cut off from network and files."""
