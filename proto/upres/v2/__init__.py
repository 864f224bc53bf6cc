"""The gRPC contract and its generated stubs."""
