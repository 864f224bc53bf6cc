"""Openers of byte streams, files on the web, numbered images and animated WebP."""
