"""Openers of sources whose bytes arrive while they are read: streams, and files on the web."""
