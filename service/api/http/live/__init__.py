"""The WebSocket for live jobs: a browser sends a source and receives the result."""
