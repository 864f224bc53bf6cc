"""The public APIs of the service: gRPC and HTTP."""
