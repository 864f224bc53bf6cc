"""The WebSocket by which a browser sends a live source and sees its result."""
