"""The way of a frame, and what can be said about it before it starts."""
