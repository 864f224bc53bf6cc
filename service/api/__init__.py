"""The doors of the service: gRPC and HTTP."""
