"""Streams that the server pulls by itself: who asks for them, and what the process of each does."""
