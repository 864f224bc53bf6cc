"""Passes over a file's packets, with nothing decoded: how long it lasts, and when its frames are shown."""
