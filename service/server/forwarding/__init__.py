"""Forwarding of requests over HTTP and gRPC: by a standby server to the active one, and between servers that share the work."""
